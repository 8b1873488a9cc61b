"""What the data decide, what is warned of, and when the ledger is asked."""

from __future__ import annotations

from typing import Any

import pytest

from aiqueue.admission.webhook.judge import Judge
from aiqueue.admission.webhook.reviews import Answer
from aiqueue.queue.records import Configuration, Flavor, Queue, Taint, Tenant
from aiqueue.queue.words import ObjectState
from fix_builders import GPU, make_configuration, make_queue, make_tenant
from fix_submitted import Source, judged, review_of, submitted_job, team_configuration

CLOSED = (make_queue("shut", state=ObjectState.HOLD), make_queue("drained", state=ObjectState.DRAIN))
EMPTY = Configuration(1)

DATA: list[tuple[dict[str, Any], Configuration, str]] = [
    (
        {"queue": "lost"},
        team_configuration(),
        (
            "there is no queue lost in namespace team-a; what would change it: queue team-a/lost created, or the label "
            "aiqueue.dev/queue set to one that exists"
        ),
    ),
    (
        {"queue": "stray"},
        team_configuration((make_queue("stray", "gone"),)),
        (
            "queue team-a/stray feeds tenant gone, which does not exist; what would change it: queue team-a/stray pointed to a leaf "
            "tenant"
        ),
    ),
    (
        {"queue": "shut"},
        team_configuration(CLOSED),
        "queue team-a/shut is in state Hold; what would change it: queue team-a/shut set to Active",
    ),
    (
        {"queue": "drained"},
        team_configuration(CLOSED),
        "queue team-a/drained is in state Drain; what would change it: queue team-a/drained set to Active",
    ),
    (
        {"class_name": "urgent"},
        team_configuration(),
        (
            "queue team-a/train does not allow class urgent; it allows one of normal; what would change it: an allowed class, or "
            "urgent allowed in queue team-a/train"
        ),
    ),
    (
        {"queue": "open", "class_name": "zeal"},
        team_configuration(),
        "there is no class zeal, asked for through queue team-a/open; what would change it: class zeal created, or another class",
    ),
    (
        {"pod": {"containers": [{"resources": {"requests": {"example.com/tpu": 1}}}]}},
        team_configuration(),
        (
            "pod set main requests example.com/tpu, and tenant research has no quota for that; it has quota for nvidia.com/gpu; what "
            "would change it: a quota for example.com/tpu in tenant research, or a request without it"
        ),
    ),
    (
        {},
        make_configuration(flavors=[Flavor("h100", {}, (Taint("spot", "", "NoSchedule"),))]),
        (
            "pod set main may run on no flavor of tenant research: h100: taint spot:NoSchedule is not tolerated; what would change "
            "it: a toleration, node selector or affinity that lets pod set main run on h100"
        ),
    ),
    (
        {"pods": 5, "gpus": 8},
        team_configuration(),
        (
            "needs 40 nvidia.com/gpu of flavor h100 and tenant research can never have more than 32: exceeds it by 8; what would "
            "change it: 8 nvidia.com/gpu of h100 less requested, or that much more quota in tenant research"
        ),
    ),
    (
        {"pods": 40, "completions": 64, "notes": {"min-parallelism": "33"}},
        team_configuration(),
        (
            "even with aiqueue.dev/min-parallelism 33 it needs 33 nvidia.com/gpu of flavor h100 and tenant research can never have "
            "more than 32: exceeds it by 1; what would change it: 1 nvidia.com/gpu of h100 less requested, or that much more quota "
            "in tenant research"
        ),
    ),
]


@pytest.mark.parametrize(("content", "configuration", "sentence"), DATA)
def test_what_can_never_be_is_refused(content: dict[str, Any], configuration: Configuration, sentence: str) -> None:
    refused = Answer(False, f"Job team-a/fit: {sentence}", 403)
    assert judged(submitted_job(**content), configuration=configuration) == refused
    unlabelled = submitted_job(**content | {"queue": None})
    assert judged(submitted_job(**content), unlabelled, configuration=configuration) == refused


@pytest.mark.parametrize(("content", "configuration"), [(content, configuration) for content, configuration, _ in DATA])
def test_what_is_stored_already_may_be_changed(content: dict[str, Any], configuration: Configuration) -> None:
    old = submitted_job(**content)
    new = submitted_job(**content, labels={"example.com/team": "blue"})
    source = Source.of(configuration)
    assert Judge(source).quick(review_of(new, old)) == Answer(True)
    assert source.reads == 0


@pytest.mark.parametrize(
    "content",
    [
        {"pods": 32},
        {"pods": 40, "notes": {"min-parallelism": "32"}},
        {"class_name": "normal"},
        {"queue": "open", "class_name": "urgent"},
        {"pods": 100, "completions": 32},
        {"pod": {"containers": [{"resources": {"requests": {"cpu": 10**6}}}]}},
    ],
)
def test_what_may_fit_one_day_is_allowed_without_asking_the_ledger(content: dict[str, Any]) -> None:
    source = Source.of(team_configuration())
    assert Judge(source).quick(review_of(submitted_job(**content))) == Answer(True)
    assert source.reads == 0


def test_a_least_size_above_the_size_that_a_run_left_over() -> None:
    notes = {"min-parallelism": "33", "run": "0f8fad5b-d9cb-469f-a165-70867728950e/12/3"}
    old = submitted_job(pods=4, notes=notes)
    assert judged(submitted_job(pods=5, notes=notes), old) == Answer(True)


def test_only_the_namespace_of_the_request_counts() -> None:
    job = submitted_job(metadata={"namespace": "team-a"})
    answer = judged(job, namespace="team-b")
    assert answer.sentence.startswith("Job team-b/fit: there is no queue train in namespace team-b; ")


@pytest.mark.parametrize(
    ("content", "hint"),
    [({"queue": "trian"}, "did you mean queue train?"), ({"class_name": "norml"}, "did you mean class normal?")],
)
def test_a_name_that_is_nearly_right(content: dict[str, Any], hint: str) -> None:
    answer = judged(submitted_job(**content))
    assert (answer.allowed, answer.warnings) == (False, (f"Job team-a/fit: {hint}",))


def test_queues_of_other_namespaces_are_not_told() -> None:
    elsewhere = make_queue("trial", namespace="team-b")
    answer = judged(submitted_job("tria1"), configuration=make_configuration(queues=[elsewhere]))
    assert (answer.allowed, answer.warnings) == (False, ())


class TestAskingTheLedger:
    def test_quick_never_refuses_on_data(self) -> None:
        source = Source.of(team_configuration())
        assert Judge(source).quick(review_of(submitted_job("lost"))) is None
        assert source.reads == 0

    def test_quick_knows_nothing_before_the_first_read(self) -> None:
        source = Source(None, team_configuration())
        assert Judge(source).quick(review_of(submitted_job())) is None
        assert Judge(source).thorough(review_of(submitted_job())) == Answer(True)
        assert source.reads == 1

    def test_a_queue_made_a_moment_ago_is_found(self) -> None:
        source = Source(EMPTY, team_configuration())
        assert Judge(source).thorough(review_of(submitted_job())) == Answer(True)
        assert source.reads == 1

    def test_form_needs_no_ledger(self) -> None:
        source = Source(None, None)
        answer = Judge(source).quick(review_of(submitted_job(notes={"hold": "perhaps"})))
        assert answer is not None
        assert (answer.allowed, answer.code, source.reads) == (False, 422, 0)

    def test_no_ledger_and_nothing_known(self) -> None:
        answer = Judge(Source(None, None)).thorough(review_of(submitted_job()))
        sentence = (
            "is stored and waits: aiqueue's ledger could not be asked, so it is not known whether queue train can take it"
        )
        assert answer == Answer(True, warnings=(f"Job team-a/fit: {sentence}",))

    def test_no_ledger_and_a_refusal_in_memory(self) -> None:
        answer = Judge(Source(team_configuration(), None)).thorough(review_of(submitted_job(gpus=33)))
        assert answer.allowed
        assert answer.warnings == (
            "Job team-a/fit: is stored and waits: aiqueue's ledger could not be asked, so it is not known whether queue train can take it",
            (
                "Job team-a/fit: by what was last known it cannot start: needs 33 nvidia.com/gpu of flavor h100 and tenant research "
                "can never have more than 32: exceeds it by 1"
            ),
        )

    @pytest.mark.parametrize(("seconds", "told"), [(5.0, False), (12.4, True)])
    def test_no_ledger_for_a_while(self, seconds: float, told: bool) -> None:
        answer = Judge(Source(team_configuration(), None, seconds)).quick(review_of(submitted_job()))
        sentence = "aiqueue's ledger has not answered for 12 s: queue, class and quota were checked as they stood before"
        assert answer == Answer(True, warnings=(f"Job team-a/fit: {sentence}",) if told else ())

    def test_a_change_that_asks_nothing_anew_is_not_warned_of_an_absent_ledger(self) -> None:
        for source in (Source(None, None), Source(team_configuration(), None, 99)):
            new = submitted_job(notes={"checkpoint": "5m"})
            assert Judge(source).quick(review_of(new, submitted_job())) == Answer(True)


class TestWarnings:
    def test_a_closed_tenant_refuses_nobody(self) -> None:
        lab = make_tenant("lab", (), state=ObjectState.HOLD)
        known = make_configuration([lab, make_tenant(parent="lab")])
        answer = judged(submitted_job(), configuration=known)
        assert answer == Answer(True, warnings=("Job team-a/fit: is stored and waits: tenant lab is in state Hold",))

    def test_nor_does_one_in_no_tree(self) -> None:
        answer = judged(submitted_job(), configuration=make_configuration([make_tenant(parent="gone")]))
        sentence = "is stored and waits: tenant research takes no work: its parent gone does not exist"
        assert answer == Answer(True, warnings=(f"Job team-a/fit: {sentence}",))

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            ({"notes": {"max-runtime": "48h"}}, "aiqueue.dev/max-runtime is 2d, and class normal allows 1d: the lesser counts"),
            ({"notes": {"max-runtime": "24h"}}, None),
            ({"notes": {"max-runtime": "48h"}, "queue": "open"}, None),
            ({"notes": {"max-runtime": "48h"}, "queue": "open", "class_name": "urgent"}, None),
        ],
    )
    def test_a_runtime_beyond_the_class(self, content: dict[str, Any], sentence: str | None) -> None:
        told = () if sentence is None else (f"Job team-a/fit: {sentence}",)
        assert judged(submitted_job(**content)) == Answer(True, warnings=told)
        plain = submitted_job(**content | {"notes": {}})
        assert judged(submitted_job(**content), plain) == Answer(True, warnings=told), "also when it is written later"
        assert judged(submitted_job(**content, labels={"a": "b"}), submitted_job(**content)) == Answer(True), "and only then"

    def test_a_runtime_beyond_a_new_class(self) -> None:
        notes = {"max-runtime": "48h"}
        answer = judged(submitted_job("open", "normal", notes=notes), submitted_job("open", "urgent", notes=notes))
        assert answer.warnings == (
            "Job team-a/fit: aiqueue.dev/max-runtime is 2d, and class normal allows 1d: the lesser counts",
        )

    @pytest.mark.parametrize(
        ("field", "key", "meant"),
        [
            ("annotations", "aiqueue.dev/max-runtme", ": did you mean aiqueue.dev/max-runtime?"),
            ("annotations", "aiqueue.dev/minparallelism", ": did you mean aiqueue.dev/min-parallelism?"),
            ("annotations", "aiqueue.dev/checkpoints", ": did you mean aiqueue.dev/checkpoint?"),
            ("annotations", "aiqueue.dev/zzz", ""),
            ("labels", "aiqueue.dev/qeue", ": did you mean aiqueue.dev/queue?"),
            ("labels", "aiqueue.dev/clas", ": did you mean aiqueue.dev/class?"),
        ],
    )
    def test_a_key_that_means_nothing(self, field: str, key: str, meant: str) -> None:
        job = submitted_job()
        job["metadata"][field][key] = "x"
        warned = Answer(True, warnings=(f"Job team-a/fit: metadata.{field}[{key}] means nothing to aiqueue{meant}",))
        assert judged(job) == warned
        assert judged(job, submitted_job()) == warned, "also when it is written later"
        assert judged(job, job) == Answer(True), "and only then"

    @pytest.mark.parametrize(
        ("field", "other", "key"),
        [("labels", "annotations", "aiqueue.dev/max-runtime"), ("annotations", "labels", "aiqueue.dev/class")],
    )
    def test_a_key_in_the_wrong_place(self, field: str, other: str, key: str) -> None:
        job = submitted_job()
        job["metadata"][field][key] = "x"
        told = f"Job team-a/fit: metadata.{field}[{key}] means nothing there: write it under metadata.{other}"
        assert judged(job) == Answer(True, warnings=(told,))

    def test_few_of_many_keys(self) -> None:
        job = submitted_job(notes={f"key-{number:03}" + "x" * 300: "" for number in range(500)})
        answer = judged(job)
        assert len(answer.warnings) == 4
        assert all(len(each) < 200 for each in answer.warnings)

    def test_what_matters_most_comes_first(self) -> None:
        notes = {f"a{number}": "" for number in range(9)} | {"max-runtime": "48h"}
        job = submitted_job(notes=notes, labels={f"aiqueue.dev/a{number}": "" for number in range(9)})
        answer = judged(job, configuration=team_configuration(state=ObjectState.HOLD))
        assert [each.partition(": ")[2][:12] for each in answer.warnings[:3]] == [
            "aiqueue.dev/",
            "is stored an",
            "metadata.lab",
        ]
        assert len(answer.warnings) == 10

    def test_keys_of_others_and_of_ours(self) -> None:
        notes = {"run": "l/1/1", "evict-at": "x", "user": "alice", "hold": "false"}
        assert judged(submitted_job(notes=notes, labels={"app": "x", "simulate.aiqueue.dev/at": "1s"})) == Answer(True)


class TestNoneOfOurBusiness:
    @pytest.mark.parametrize(
        ("job", "old"),
        [
            (submitted_job(None, "Bad", notes={"hold": "x"}), None),
            (submitted_job(None, notes={"hold": "x"}), submitted_job(None)),
            (submitted_job(None, gpus=99), submitted_job("lost")),
            (
                submitted_job("lost", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}, pods=9),
                submitted_job(suspend=False),
            ),
        ],
    )
    def test_is_let_through(self, job: dict[str, Any], old: dict[str, Any] | None) -> None:
        assert Judge(Source(None, None)).quick(review_of(job, old)) == Answer(True)


def test_a_dry_run_is_judged_like_the_real_thing() -> None:
    assert judged(submitted_job("lost"), dryRun=True) == judged(submitted_job("lost"))


def test_many_complaints_are_counted_and_the_rest_is_told() -> None:
    notes = {"hold": "1", "max-runtime": "1", "estimated-runtime": "1", "checkpoint": "1", "min-parallelism": "x"}
    old = submitted_job(pods=4, suspend=False)
    answer = judged(submitted_job("Bad", "Bad", gpus=-1, pods=0, suspend=False, notes=notes), old)
    assert not answer.allowed
    assert answer.sentence.endswith("; and 6 more")


def test_tenants_that_only_lend_can_be_borrowed_from() -> None:
    lab = Tenant("lab", quotas=make_tenant().quotas)
    mine = make_tenant(quotas={"h100": {GPU: 0}}, parent="lab")
    known = make_configuration([lab, mine], [Queue("team-a", "train", "research")])
    assert judged(submitted_job(gpus=32), configuration=known).allowed
    assert not judged(submitted_job(gpus=33), configuration=known).allowed
