"""Outcomes of simulations, built without a simulation: figures are checked against what is written down here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.parsers.expat import ParserCreate

from aiqueue.admission.simulate.outcome import JobOutcome, Outcome, SimulatedRun
from aiqueue.admission.simulate.scenario import Scenario, SimulatedJob
from aiqueue.queue.records import Configuration, PodSet, shape_of
from aiqueue.queue.words import PreemptionRule, Reason, RunOutcome, WorkloadState
from fix_builders import GPU

SECOND = 1_000_000


def a_run(
    admitted: float,
    ended: float | None,
    gpus: int = 1,
    *,
    outcome: RunOutcome | None = None,
    lost: float = 0,
    amounts: Mapping[str, int] | None = None,
    by: str = "",
    told: float | None = None,
    rule: PreemptionRule | None = None,
) -> SimulatedRun:
    """A run of so many seconds; Finished, or Running where it has no end, unless told otherwise. One `told` was given ten seconds."""
    return SimulatedRun(
        admitted_us=round(admitted * SECOND),
        pods=1,
        flavors={"main": {GPU: "h100"}},
        amounts={GPU: gpus} if amounts is None else amounts,
        ended_us=None if ended is None else round(ended * SECOND),
        outcome=outcome or (RunOutcome.RUNNING if ended is None else RunOutcome.FINISHED),
        preempted_by=by,
        lost_us=round(lost * SECOND),
        noticed_us=None if told is None else round(told * SECOND),
        evict_at_us=None if told is None else round((told + 10) * SECOND),
        rule=rule,
    )


def a_job(
    name: str,
    arrival: float,
    *runs: SimulatedRun,
    tenant: str = "research",
    state: WorkloadState | None = None,
    reason: Reason | None = None,
    message: str = "",
) -> JobOutcome:
    """A job that arrived then. Its state is what its last run says, unless told otherwise."""
    pod_sets = (PodSet("main", 1, {GPU: 1}),)
    arrived = round(arrival * SECOND)
    job = SimulatedJob("team-a", name, "train", None, pod_sets, shape_of(pod_sets, None), arrived, SECOND)
    if state is None:
        last = runs[-1].outcome if runs else None
        state = {RunOutcome.FINISHED: WorkloadState.FINISHED, RunOutcome.RUNNING: WorkloadState.ADMITTED}.get(
            last or RunOutcome.PREEMPTED, WorkloadState.PENDING
        )
    return JobOutcome(job, tenant, state, list(runs), reason, message)


def an_outcome(
    jobs: Sequence[JobOutcome],
    configurations: Configuration | Sequence[tuple[float, Configuration]],
    *,
    capacity: Mapping[str, int] | None = None,
    until: float | None = None,
) -> Outcome:
    """What came of these jobs, under one configuration or several by time."""
    listed = [(0.0, configurations)] if isinstance(configurations, Configuration) else configurations
    scenario = Scenario((), tuple(each.job for each in jobs), capacity)
    edits = [(round(at * SECOND), each) for at, each in listed]
    return Outcome(scenario, jobs, edits, None if until is None else round(until * SECOND))


@dataclass(slots=True)
class Element:
    """One element of a picture."""

    tag: str
    attributes: Mapping[str, str]
    text: str = ""


def elements_of(picture: str) -> list[Element]:
    """Every element, in the order of their ends; a picture that is not well formed raises."""
    ended: list[Element] = []
    opened: list[Element] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        opened.append(Element(tag, attributes))

    def characters(text: str) -> None:
        opened[-1].text += text

    parser = ParserCreate()
    parser.StartElementHandler = start
    parser.CharacterDataHandler = characters
    parser.EndElementHandler = lambda _: ended.append(opened.pop())
    parser.Parse(picture, True)
    return ended
