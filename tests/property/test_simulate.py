"""Simulations of any small scene: what holds of each of them, whatever was configured and when it was changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from heapq import heappop, heappush
from itertools import cycle, pairwise

from hypothesis import event, given, settings
from hypothesis import strategies as st

from aiqueue.admission.simulate.loop import simulate
from aiqueue.admission.simulate.outcome import JobOutcome, Outcome, SimulatedRun
from aiqueue.admission.simulate.scenario import Edit, Scenario, SimulatedJob
from aiqueue.queue.documents import Record
from aiqueue.queue.records import Class, Flavor, PodSet, Queue, Quota, Tenant, shape_of
from aiqueue.queue.words import ObjectState, Queueing, Reason, Reclaim, WithinTenant, WorkloadState
from fix_engine_shares import count, counted
from fix_simulate import GPU, SECOND

EXAMPLES = 200
LEAVES = ("t0", "t1", "t2")
NOMINALS = st.sampled_from((4, 8, 6, 5, 3, 2, 1, 0))
CLASSES = {
    each.name: each
    for each in (
        Class("short", priority=0, grace_period_seconds=0),
        Class("long", priority=1, min_runtime_seconds=12, grace_period_seconds=3),
        Class(
            "timed",
            priority=0,
            min_runtime_seconds=8,
            grace_period_seconds=2,
            max_runtime_seconds=15,
            max_total_runtime_seconds=20,
        ),
        Class("fixed", priority=1, preemptible=False),
    )
}


@dataclass(frozen=True)
class Rough:
    """A job as hypothesis draws it: all in seconds."""

    leaf: int
    pods: int
    gpus: int
    arrival: int
    runtime: int
    checkpoint: int | None
    of_class: str | None
    elastic: bool

    def job(self, number: int) -> SimulatedJob:
        least = 1 if self.elastic and self.pods > 1 else None
        pod_sets = (PodSet("main", self.pods, {GPU: self.gpus, "pods": 1}, least),)
        return SimulatedJob(
            "ns",
            f"j{number}",
            f"q{self.leaf}",
            self.of_class,
            pod_sets,
            shape_of(pod_sets, self.of_class),
            self.arrival * SECOND,
            self.runtime * SECOND,
            None if self.checkpoint is None else self.checkpoint * SECOND,
            told_checkpoint_seconds=self.checkpoint,
        )


def roughs(leaves: int = 3) -> st.SearchStrategy[list[Rough]]:
    return st.lists(
        st.builds(
            Rough,
            st.integers(0, leaves - 1),
            st.integers(1, 2),
            st.sampled_from((2, 3, 1, 4)),
            st.integers(0, 30),
            st.integers(1, 60),
            st.sampled_from((None, None, 1, 4, 9)),
            st.sampled_from(("short", "long", *CLASSES, None)),
            st.booleans(),
        ),
        min_size=9,
        max_size=18,
    )


def jobs_of(given_roughs: Sequence[Rough]) -> list[SimulatedJob]:
    jobs = [each.job(number) for number, each in enumerate(given_roughs)]
    return sorted(jobs, key=lambda job: job.arrival_us)


limits = st.sampled_from((None, None, None, 0, 3))


def leaf(name: str, parent: str | None, nominal: int, borrowing: int | None = None, **changes: object) -> Tenant:
    tenant = Tenant(name, parent, quotas=(Quota("f", GPU, nominal, borrowing),))
    return replace(tenant, **changes)  # type: ignore[arg-type]  # whatever a test is about


AT_FIRST = st.sampled_from((ObjectState.ACTIVE,) * 6 + (ObjectState.HOLD, ObjectState.DRAIN))
LATER = st.sampled_from((ObjectState.DRAIN, ObjectState.ACTIVE, ObjectState.DRAIN, ObjectState.HOLD))


@st.composite
def tenants(draw: st.DrawFn, name: str, parent: str | None, states: st.SearchStrategy[ObjectState]) -> Tenant:
    return leaf(
        name,
        parent,
        draw(NOMINALS),
        draw(limits),
        queueing=draw(st.sampled_from(Queueing)),
        state=draw(states),
        starvation_bound_seconds=draw(st.sampled_from((0, 10, 10**6))),
        weight=draw(st.sampled_from((Fraction(1), Fraction(2), Fraction(0)))),
        within_tenant=draw(st.sampled_from((*WithinTenant, WithinTenant.LOWER_PRIORITY))),
        reclaim=draw(st.sampled_from((*Reclaim, Reclaim.ANY, Reclaim.ANY))),
    )


@st.composite
def scenes(draw: st.DrawFn) -> Scenario:
    """Three leaves, alone or under a root, edited up to four times."""
    parent = draw(st.sampled_from(("lab", None)))
    records: list[Record] = [Flavor("f"), *CLASSES.values(), Tenant("lab")]
    records += [draw(tenants(name, parent, AT_FIRST)) for name in LEAVES]
    records += [Queue("ns", f"q{number}", name) for number, name in enumerate(LEAVES)]
    edits = [Edit(0, tuple(records))]
    times = draw(st.sets(st.integers(5, 60), max_size=5))
    for states, at in zip(cycle((LATER, AT_FIRST)), sorted(times), strict=False):  # so that what is closed opens again
        changed = draw(st.lists(st.sampled_from(LEAVES), min_size=1, max_size=3, unique=True))
        edits.append(Edit(at * SECOND, tuple(draw(tenants(name, parent, states)) for name in sorted(changed))))
    return Scenario(edits, jobs_of(draw(roughs())))


def held_by(outcome: Outcome, tenant: str | None, at: int) -> int:
    """GPUs that open runs hold just after an instant, of one tenant or of all."""
    return sum(
        run.amounts.get(GPU, 0)
        for job in outcome.jobs
        if tenant in (None, job.tenant)
        for run in job.runs
        if run.admitted_us <= at and (run.ended_us is None or run.ended_us > at)
    )


@settings(max_examples=EXAMPLES)
@given(scenes())
def test_no_admission_exceeds_the_quota_of_its_time(scene: Scenario) -> None:
    outcome = simulate(scene)
    borrowed = False
    for at in sorted({run.admitted_us for job in outcome.jobs for run in job.runs}):
        configuration = next(each for since, each in reversed(outcome.configurations) if since <= at)
        leaves = [configuration.tenants[name] for name in LEAVES]
        grown = {job.tenant for job in outcome.jobs for run in job.runs if run.admitted_us == at}
        for tenant in leaves:
            (quota,) = tenant.quotas
            if tenant.name not in grown:
                continue
            held = held_by(outcome, tenant.name, at)
            borrowed |= held > quota.nominal
            most = sum(each.quotas[0].nominal for each in leaves) if tenant.parent else quota.nominal
            if tenant.parent and quota.borrowing_limit is not None:
                most = min(most, quota.nominal + quota.borrowing_limit)
            assert held <= most
            if tenant.parent:
                assert held_by(outcome, None, at) <= sum(each.quotas[0].nominal for each in leaves)
    event(f"borrowed: {borrowed}")


def lasted_us(run: SimulatedRun) -> int:
    """How long a run was open that ended."""
    return (run.ended_us or 0) - run.admitted_us


def work_left(job: JobOutcome, runs: Sequence[SimulatedRun]) -> int:
    """What these runs leave to do, in pods times microseconds."""
    whole = job.job.pod_sets[0].count * job.job.runtime_us
    return whole - sum((lasted_us(run) - run.lost_us) * run.pods for run in runs)


@counted(drained=20, preempted=20, expired=10, part=5, ran_again=20, pending=20)
@settings(max_examples=EXAMPLES)
@given(scenes())
def test_every_job_that_finished_did_its_work_and_every_other_says_why_it_waits(scene: Scenario) -> None:
    outcome = simulate(scene)
    for job in outcome.jobs:
        assert all(run.admitted_us >= job.job.arrival_us for run in job.runs)
        assert all((a.ended_us or 0) <= b.admitted_us for a, b in pairwise(job.runs))
        assert all(run.outcome in ("Drained", "Preempted") and run.reason for run in job.runs[:-1])
        if job.state is WorkloadState.FINISHED:
            last = job.runs[-1]
            assert lasted_us(last) == -(-work_left(job, job.runs[:-1]) // last.pods)
            assert (last.outcome, last.reason, last.lost_us, job.reason, job.message) == ("Finished", "", 0, None, "")
        elif job.state is WorkloadState.EXPIRED:
            assert (job.runs[-1].outcome, job.runs[-1].lost_us, job.reason) == ("Expired", 0, None)
            assert work_left(job, job.runs) > 0
        else:
            assert job.state is WorkloadState.PENDING
            assert work_left(job, job.runs) > 0
            assert job.reason not in (None, Reason.PENDING_EVALUATION, Reason.WAITING_FOR_VICTIMS)
            assert job.message
    runs = [run for job in outcome.jobs for run in job.runs]
    count(
        drained=any(run.outcome == "Drained" for run in runs),
        preempted=any(run.outcome == "Preempted" for run in runs),
        expired=any(run.outcome == "Expired" for run in runs),
        part=any(run.pods < job.job.pod_sets[0].count for job in outcome.jobs for run in job.runs),
        ran_again=any(len(job.runs) > 1 for job in outcome.jobs),
        pending=any(job.state is WorkloadState.PENDING for job in outcome.jobs),
    )


@counted(preempted=20, in_grace=2, protected=1, expired=10)
@settings(max_examples=EXAMPLES)
@given(scenes())
def test_the_contract_of_each_class_is_kept(scene: Scenario) -> None:
    outcome = simulate(scene)
    in_grace = protected = False
    for job in outcome.jobs:
        terms = CLASSES.get(job.job.class_name or "", Class("", grace_period_seconds=30))
        for run in job.runs:
            assert (run.rule is not None) == bool(run.preempted_by) == (run.outcome == "Preempted")
            if run.noticed_us is None or run.evict_at_us is None:
                assert run.outcome == "Finished"
                continue
            assert (run.ended_us or 0) <= run.evict_at_us
            in_grace |= run.outcome == "Finished"
            if run.outcome == "Finished":
                continue
            assert run.ended_us == run.evict_at_us
            if run.outcome == "Expired":
                continue
            assert run.evict_at_us - run.noticed_us >= terms.grace_period_seconds * SECOND
            if run.outcome == "Preempted":
                assert terms.preemptible
                assert lasted_us(run) >= terms.min_runtime_seconds * SECOND
                protected |= lasted_us(run) == terms.min_runtime_seconds * SECOND > 0
        if terms.max_runtime_seconds is not None and terms.max_total_runtime_seconds is not None:
            lasted = [-(-lasted_us(run) // SECOND) for run in job.runs]
            assert all(each <= terms.max_runtime_seconds for each in lasted)
            assert sum(lasted) <= terms.max_total_runtime_seconds
            if job.state is WorkloadState.EXPIRED:
                used = sum(lasted[:-1])
                assert lasted_us(job.runs[-1]) == SECOND * min(
                    terms.max_runtime_seconds, terms.max_total_runtime_seconds - used
                )
        else:
            assert job.state is not WorkloadState.EXPIRED
    runs = [run for job in outcome.jobs for run in job.runs]
    count(
        preempted=any(run.outcome == "Preempted" for run in runs),
        in_grace=in_grace,
        protected=protected,
        expired=any(run.outcome == "Expired" for run in runs),
    )


@settings(max_examples=EXAMPLES)
@given(scenes(), st.integers(0, 80))
def test_a_simulation_that_is_cut_off_is_the_beginning_of_the_whole(scene: Scenario, until: int) -> None:
    until_us = until * SECOND
    cut, whole = simulate(scene, until_us=until_us), simulate(scene)
    for short, full in zip(cut.jobs, whole.jobs, strict=True):
        begun = [run for run in full.runs if run.admitted_us <= until_us]
        assert len(short.runs) == len(begun)
        for one, other in zip(short.runs, begun, strict=True):
            assert one.admitted_us == other.admitted_us
            ended = other.ended_us is not None and other.ended_us <= until_us
            assert one.ended_us == (other.ended_us if ended else None)
            assert (one.outcome, one.lost_us) == ((other.outcome, other.lost_us) if ended else ("Running", 0))
            told = other.noticed_us is not None and other.noticed_us <= until_us
            assert (one.noticed_us, one.evict_at_us) == ((other.noticed_us, other.evict_at_us) if told else (None, None))


@settings(max_examples=EXAMPLES)
@given(roughs(1), st.integers(0, 8), st.sampled_from(Queueing), st.sampled_from((0, 10, 10**6)))
def test_all_jobs_that_fit_finish_and_the_others_never_start(
    drawn: list[Rough], gpus: int, queueing: Queueing, bound: int
) -> None:
    tenant = leaf("t0", None, gpus, queueing=queueing, starvation_bound_seconds=bound)
    edit = Edit(0, (Flavor("f"), *CLASSES.values(), tenant, Queue("ns", "q0", "t0")))
    for job in simulate(Scenario([edit], jobs_of(drawn))).jobs:
        (pod_set,) = job.job.pod_sets
        least = pod_set.count if pod_set.min_count is None else pod_set.min_count
        if least * pod_set.requests[GPU] > gpus:
            assert (job.state, job.runs, job.reason) == (WorkloadState.PENDING, [], Reason.EXCEEDS_CEILING)
        elif job.job.class_name == "timed":
            assert job.state in (WorkloadState.FINISHED, WorkloadState.EXPIRED)
        else:
            assert job.state is WorkloadState.FINISHED
        assert {str(run.outcome) for run in job.runs[:-1]} <= {"Preempted"}


def first_come_first_served(jobs: Sequence[tuple[int, int, int]], gpus: int) -> list[int]:
    """The textbook: (arrival, amount, runtime) by arrival to starts."""
    starts: list[int] = []
    running: list[tuple[int, int]] = []
    now, free = 0, gpus
    for arrival, amount, runtime in jobs:
        now = max(now, arrival)
        while running and (running[0][0] <= now or free < amount):
            ended, back = heappop(running)
            now, free = max(now, ended), free + back
        starts.append(now)
        heappush(running, (now + runtime, amount))
        free -= amount
    return starts


@settings(max_examples=EXAMPLES)
@given(roughs(1), st.integers(8, 11))
def test_one_strict_queue_is_first_come_first_served(drawn: list[Rough], gpus: int) -> None:
    alike = [replace(each, of_class=None, elastic=False) for each in drawn if each.pods * each.gpus <= gpus]
    edit = Edit(0, (Flavor("f"), leaf("t0", None, gpus, queueing=Queueing.STRICT), Queue("ns", "q0", "t0")))
    jobs = jobs_of(alike)
    table = [(job.arrival_us, job.pod_sets[0].count * job.pod_sets[0].requests[GPU], job.runtime_us) for job in jobs]
    expected = first_come_first_served(table, gpus)
    outcome = simulate(Scenario([edit], jobs))
    assert [job.runs[0].admitted_us for job in outcome.jobs] == expected
    waited = any(start > job.arrival_us for start, job in zip(expected, jobs, strict=True))
    event(f"waited: {waited}")
