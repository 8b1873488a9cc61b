"""AdmissionReviews in and out: what is read, what is not, and what bounds an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiqueue.admission.webhook import reviews
from aiqueue.admission.webhook.judge import Judge
from aiqueue.admission.webhook.reviews import Answer, Review, UnreadableReview
from fix_submitted import ABSENT, Source, asked, review_of, submitted_job, team_configuration

UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
DEEP = 100_000


def request_without(*fields: str) -> bytes:
    content = json.loads(asked(submitted_job()))
    for field in fields:
        del content["request"][field]
    return json.dumps(content).encode()


def whole(**changes: Any) -> bytes:
    return json.dumps(json.loads(asked(submitted_job())) | changes).encode()


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


class TestRequests:
    def test_of_a_create(self) -> None:
        review = review_of(submitted_job(class_name="normal", notes={"max-runtime": "1h"}))
        assert (review.uid, review.operation, review.namespace, review.user) == (UID, "CREATE", "team-a", "alice")
        assert (review.old, review.unreadable) == (None, "")
        assert review.job is not None
        assert review.job.name == "fit"
        assert review.job.observation.queue_name == "train"
        assert sorted(review.job.label_keys) == ["aiqueue.dev/class", "aiqueue.dev/queue"]
        assert sorted(review.job.annotation_keys) == ["aiqueue.dev/max-runtime"]

    def test_of_an_update(self) -> None:
        review = review_of(submitted_job("b"), submitted_job("a"))
        assert review.job is not None
        assert review.old is not None
        assert (review.job.labels.queue, review.old.labels.queue) == ("b", "a")

    @pytest.mark.parametrize(
        ("metadata", "name"),
        [
            ({"name": ABSENT}, "*"),
            ({"name": ABSENT, "generateName": "fit-"}, "fit-*"),
            ({"name": "x" * 300}, "x" * 253),
            ({"name": "a\nb\x1b[31m"}, "a?b?[31m"),
        ],
    )
    def test_a_name(self, metadata: dict[str, Any], name: str) -> None:
        review = review_of(submitted_job(metadata=metadata))
        assert review.job is not None
        assert review.job.name == name

    @pytest.mark.parametrize(
        "change",
        [
            {"operation": "DELETE", "object": None, "oldObject": submitted_job()},
            {"operation": "CONNECT"},
            {"operation": ""},
            {"operation": "PATCH"},
            {"subResource": "status"},
            {"resource": {"group": "batch", "version": "v1beta1", "resource": "jobs"}},
            {"resource": {"group": "batch", "version": "v1", "resource": "cronjobs"}},
            {"resource": {"group": "", "version": "v1", "resource": "pods"}},
            {"resource": {}},
        ],
    )
    def test_of_what_is_none_of_our_business(self, change: dict[str, Any]) -> None:
        review = review_of(submitted_job("No Queue"), **change)
        assert (review.uid, review.job, review.unreadable) == (UID, None, "")
        assert Judge(Source(None, None)).quick(review) == Answer(True)

    @pytest.mark.parametrize(
        "content",
        [
            None,
            [],
            "x",
            {},
            {"metadata": {}},
            submitted_job(pods="many"),
            submitted_job(pods=1.5),
            submitted_job(pods=True),
            submitted_job(template=None),
            submitted_job(metadata={"labels": {"aiqueue.dev/queue": 1}}),
            submitted_job(metadata={"annotations": ["x"]}),
            submitted_job(metadata={"creationTimestamp": "yesterday"}),
            submitted_job(pod={"containers": "none"}),
        ],
    )
    def test_of_an_object_that_cannot_be_read(self, content: Any) -> None:
        review = review_of(content)
        assert review.job is None
        answer = Judge(Source(None, None)).quick(review)
        assert answer is not None
        (warning,) = answer.warnings
        assert answer.allowed
        assert warning.startswith("aiqueue could not read this Job and checked nothing of it: ")
        assert not review_of(submitted_job(), content if content is not None else {}).job, "nor an old one"

    @pytest.mark.parametrize("text", ["\\ud800", "\\udc00\\ud800", "\\uZZZZ"])
    def test_of_a_text_that_is_none(self, text: str) -> None:
        body = asked(submitted_job(name="NAME")).replace(b"NAME", text.encode())
        try:
            review = reviews.decode(body)
        except UnreadableReview:
            return
        assert review.unreadable

    @pytest.mark.parametrize("number", ["9" * 5000, "1e3", "-0.0", "1e999999"])
    def test_of_a_size_that_is_none(self, number: str) -> None:
        review = reviews.decode(asked(submitted_job(pods="SIZE")).replace(b'"SIZE"', number.encode()))
        assert review.unreadable

    @pytest.mark.parametrize(
        ("number", "allowed", "warned"),
        [("9" * 4000, False, 0), ("1e999999", True, 1), ("-1e999", True, 1), ("1e-999999", True, 0), ("0.1", True, 0)],
    )
    def test_of_a_quantity_that_is_none(self, number: str, allowed: bool, warned: int) -> None:
        review = reviews.decode(asked(submitted_job(gpus="AMOUNT")).replace(b'"AMOUNT"', number.encode()))
        answer = Judge(Source.of(team_configuration())).thorough(review)
        assert (answer.allowed, len(answer.warnings)) == (allowed, warned)

    @pytest.mark.parametrize(
        "pod",
        [
            {"containers": [{"resources": {"limits": {"cpu": 1}}}] * 501},
            {"initContainers": [{}] * 1001},
            {"containers": [{"resources": {"requests": {f"a.b/{number}": 1 for number in range(1000)}}}]},
            {"tolerations": [{"operator": "Exists"}] * 1001},
            {"nodeSelector": {str(number): "" for number in range(1001)}},
            {"affinity": required({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"] * 1000}]})},
            {"affinity": required(*[{"matchFields": [{"key": "a", "operator": "Exists"}]}] * 501)},
            {"affinity": required(*[{}] * 1001)},
            {"resources": {"requests": {f"a.b/{number}": 1 for number in range(1001)}}},
            {"overhead": {f"a.b/{number}": 1 for number in range(1001)}},
        ],
    )
    def test_of_a_pod_that_takes_too_long_to_weigh(self, pod: dict[str, Any]) -> None:
        review = review_of(submitted_job(pod={"containers": [], **pod}))
        assert review.unreadable.startswith("aiqueue could not read this Job and checked nothing of it: its pod has 100")
        assert review.unreadable.endswith(" in all, and at most 1000 are looked at")

    def test_duplicate_keys_are_read_as_the_api_server_reads_them(self) -> None:
        body = asked(submitted_job()).replace(
            b'"aiqueue.dev/queue": "train"', b'"aiqueue.dev/queue": "a", "aiqueue.dev/queue": "b"'
        )
        review = reviews.decode(body)
        assert review.job is not None
        assert review.job.labels.queue == "b"


class TestWhatIsNoReview:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b"\xff\xfe",
            b"\xef\xbb\xbf{}",
            b"not json",
            b'{"apiVersion": NaN}',
            asked(submitted_job())[:-1],
            asked(submitted_job()) + b"x",
            b"[" * DEEP,
            b'{"apiVersion":' + b"[" * DEEP + b"]" * DEEP + b"}",
            asked("OBJECT").replace(b'"OBJECT"', b'{"a":' * DEEP + b"1" + b"}" * DEEP),
            request_without("uid"),
            whole(request=None),
            whole(request=[]),
            asked(submitted_job(), uid=""),
            asked(submitted_job(), uid=None),
            asked(submitted_job(), uid=7),
            asked(submitted_job(), uid="x" * 129),
            asked(submitted_job(), uid="a\nb"),
            asked(submitted_job(), uid="\u00fc"),
            asked(submitted_job(), namespace=5),
            asked(submitted_job(), userInfo="alice"),
        ],
    )
    def test_is_said_so(self, body: bytes) -> None:
        with pytest.raises(UnreadableReview) as error:
            reviews.decode(body)
        assert len(str(error.value)) < 1200
        assert str(error.value).isprintable()

    @pytest.mark.parametrize(
        ("body", "sentence"),
        [
            (
                whole(apiVersion="admission.k8s.io/v1beta1"),
                "the body is 'admission.k8s.io/v1beta1' 'AdmissionReview': send AdmissionReview of admission.k8s.io/v1",
            ),
            (
                whole(kind="Job\n" + "x" * 500),
                f"the body is 'admission.k8s.io/v1' 'Job?{'x' * 59}…': send AdmissionReview of admission.k8s.io/v1",
            ),
            (whole(request=None), "the AdmissionReview has no request: send one with request.uid"),
            (asked(submitted_job(), uid=""), "request.uid is '': send 1 to 128 printable ASCII characters"),
        ],
    )
    def test_with_the_fix(self, body: bytes, sentence: str) -> None:
        with pytest.raises(UnreadableReview) as error:
            reviews.decode(body)
        assert str(error.value) == sentence


class TestAnswers:
    def test_leave(self) -> None:
        assert json.loads(reviews.encode(Review(UID), Answer(True))) == {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": {"uid": UID, "allowed": True},
        }

    @pytest.mark.parametrize(("code", "reason"), [(403, "Forbidden"), (422, "Invalid")])
    def test_a_refusal(self, code: int, reason: str) -> None:
        answer = Answer(False, "Job a/b: no", code, ("Job a/b: hm",))
        assert json.loads(reviews.encode(Review(UID), answer))["response"] == {
            "uid": UID,
            "allowed": False,
            "status": {"code": code, "message": "Job a/b: no", "reason": reason},
            "warnings": ["Job a/b: hm"],
        }

    def test_is_bounded(self) -> None:
        many = Answer(False, "\x07" + "ü" * 10_000, 403, tuple("ü\n" * 1000 for _ in range(100)))
        response = json.loads(reviews.encode(Review(UID), many))["response"]
        assert response["status"]["message"] == "?" + "ü" * 2046 + "…"
        assert len(response["warnings"]) == 8
        assert all(200 < len(each.encode()) <= 256 and each.isprintable() for each in response["warnings"])
