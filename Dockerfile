# The image of `aiqueue`, for the controller and for `aiqueue db`. Build it from a checkout: docker build -t aiqueue .
FROM python:3.13-slim AS wheel
WORKDIR /source
COPY requirements requirements
# The locked hatchling, and of the development requirements nothing else that matters here.
RUN python -m venv /build && /build/bin/pip install --no-cache-dir --require-hashes -r requirements/dev.txt
COPY . .
RUN /build/bin/python -m hatchling build --target wheel --directory /wheel

FROM python:3.13-slim
COPY requirements/runtime.txt /tmp/runtime.txt
COPY --from=wheel /wheel /tmp/wheel
RUN pip install --no-cache-dir --require-hashes -r /tmp/runtime.txt \
 && pip install --no-cache-dir --no-deps /tmp/wheel/*.whl \
 && rm -r /tmp/wheel /tmp/runtime.txt
USER 65532:65532
ENTRYPOINT ["aiqueue"]
