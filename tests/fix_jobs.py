"""Jobs that hypothesis draws: well typed, and otherwise anything that JSON can carry."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from aiqueue.admission.kube import names

texts = st.one_of(
    # All that the wire can carry: anything that encodes, NUL too.
    st.text(alphabet=st.characters(codec="utf-8"), max_size=80),
    st.sampled_from(
        ("", "true", "false", "1", "0", "-1", "007", "1h", "0s", "9" * 40, "\u0661", "\x00", "x" * 5000, "1_0", " 1", "+1")
    ),
)
int32 = st.integers(-(2**31), 2**31 - 1)
quantities = st.one_of(texts, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False))
amounts = st.dictionaries(st.one_of(st.sampled_from(("cpu", "memory", "nvidia.com/gpu")), texts), quantities, max_size=3)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with any of these fields."""
    return with_fields({}, **fields)


def with_fields(
    required: dict[str, st.SearchStrategy[Any]], **fields: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with the required and any of the other fields."""
    return st.fixed_dictionaries(required, optional=fields)


resources = optional(requests=amounts, limits=amounts)
containers = st.lists(optional(name=texts, restartPolicy=texts, resources=resources), max_size=2)
tolerations = st.lists(
    optional(key=texts, operator=texts, value=texts, effect=texts, tolerationSeconds=st.integers(-(2**63), 2**63 - 1)),
    max_size=2,
)
requirements = st.lists(with_fields({"key": texts, "operator": texts}, values=st.lists(texts, max_size=2)), max_size=2)
terms = st.lists(optional(matchExpressions=requirements, matchFields=requirements), max_size=2)
affinity = optional(nodeAffinity=optional(requiredDuringSchedulingIgnoredDuringExecution=optional(nodeSelectorTerms=terms)))
pods = optional(
    containers=containers,
    initContainers=containers,
    overhead=amounts,
    resources=resources,
    nodeSelector=st.dictionaries(texts, texts, max_size=2),
    tolerations=tolerations,
    affinity=affinity,
)
times = st.sampled_from(("2026-11-21T10:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", None))
user_annotations = st.dictionaries(
    st.sampled_from(
        (
            names.RUN_ANNOTATION,
            names.USER_ANNOTATION,
            names.HOLD_ANNOTATION,
            names.MIN_PARALLELISM_ANNOTATION,
            names.MAX_RUNTIME_ANNOTATION,
            names.ESTIMATED_RUNTIME_ANNOTATION,
            names.CHECKPOINT_ANNOTATION,
            "else",
        )
    ),
    texts,
)
labels = st.dictionaries(st.sampled_from((names.QUEUE_LABEL, names.CLASS_LABEL, "else")), texts)
owners = st.lists(with_fields({"kind": texts, "name": texts, "uid": texts}, controller=st.booleans()), max_size=2)
types = st.sampled_from(("Complete", "Failed", "Suspended", "else"))
statuses = st.sampled_from(("True", "False", "Unknown"))
conditions = st.lists(
    with_fields({"type": types, "status": statuses, "lastTransitionTime": times}, reason=texts, message=texts), max_size=3
)
metadata = with_fields(
    {"name": texts, "namespace": texts, "uid": texts, "resourceVersion": texts},
    creationTimestamp=times,
    deletionTimestamp=times,
    labels=labels,
    annotations=user_annotations,
    ownerReferences=owners,
)
specs = with_fields({"template": with_fields({"spec": pods})}, parallelism=int32, completions=int32, suspend=st.booleans())
status = optional(
    active=int32, terminating=int32, ready=int32, succeeded=int32, failed=int32, conditions=conditions, startTime=times
)
whole_jobs = with_fields({"metadata": metadata, "spec": specs}, status=status)
