"""What a simulation came to: a document for programs, a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from aiqueue.admission.simulate.figures import Figures, Number, figures_of, mean_seconds, seconds
from aiqueue.admission.simulate.outcome import JobOutcome, Outcome, SimulatedRun
from aiqueue.queue.units import base_units_per_unit
from aiqueue.queue.words import PreemptionRule, RunOutcome, WorkloadState

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

#: Ends of runs that are neither their own nor for another job.
_OTHER_ENDS = (RunOutcome.DRAINED, RunOutcome.NOT_READY, RunOutcome.EXPIRED, RunOutcome.CANCELLED)
_WAITING = frozenset({WorkloadState.PENDING, WorkloadState.RESERVED, WorkloadState.HELD})
#: Most tenants, and most reasons of jobs still pending, that a table lists.
_MOST_TENANTS = 40
_MOST_REASONS = 10


def document(outcome: Outcome) -> dict[str, Any]:
    """The summary and every job, of JSON values. Times are seconds since the start, null for the end of a run that is open."""
    return {"summary": summary(figures_of(outcome)), "jobs": [_job(each) for each in outcome.jobs]}


def encoded(outcome: Outcome) -> bytes:
    """The document as JSON text, a job a line, with a line feed at its end. The same outcome gives the same bytes."""
    encode = msgspec.json.Encoder().encode
    head = msgspec.json.format(encode(summary(figures_of(outcome))), indent=2).replace(b"\n", b"\n  ")
    jobs = b",\n    ".join([encode(_job(each)) for each in outcome.jobs])
    return b"".join((b'{\n  "summary": ', head, b',\n  "jobs": [', b"\n    " if jobs else b"", jobs, b"\n  ]\n}\n"))


def summary(figures: Figures) -> dict[str, Any]:
    """The figures of all jobs, of JSON values."""
    waits = figures.waits
    return {
        "jobs": figures.jobs,
        "finished": figures.finished,
        "makespan_seconds": seconds(figures.makespan_us),
        "mean_wait_seconds": waits.mean(),
        "p50_wait_seconds": waits.percentile(50),
        "p95_wait_seconds": waits.percentile(95),
        "p99_wait_seconds": waits.percentile(99),
        "mean_completion_seconds": mean_seconds(figures.completions),
        "utilization": figures.utilization(),
        "preemptions": figures.preemptions,
        "lost_work_seconds": seconds(figures.lost_us),
        "lost_resource_seconds": {name: _resource_seconds(name, figures.lost[name]) for name in sorted(figures.lost)},
        "jain_fairness": figures.jain(),
    }


def _resource_seconds(resource: str, total: int) -> Number:
    """Base units times microseconds as what people count, times seconds: cpu in cpus."""
    unit = base_units_per_unit(resource)
    whole, rest = divmod(total, unit * 1_000_000)
    return round(total / (unit * 1_000_000), 6) if rest else whole


def _job(each: JobOutcome) -> dict[str, Any]:
    waits = each.state in _WAITING
    return {
        "namespace": each.job.namespace,
        "name": each.job.name,
        "tenant": each.tenant,
        "arrival_seconds": seconds(each.job.arrival_us),
        "state": each.state.value,
        "runs": [_run(run) for run in each.runs],
        "reason": each.reason.value if waits and each.reason is not None else "",
        "message": each.message if waits else "",
    }


def _run(run: SimulatedRun) -> dict[str, Any]:
    return {
        "admitted_seconds": seconds(run.admitted_us),
        "ended_seconds": None if run.ended_us is None else seconds(run.ended_us),
        "outcome": run.outcome.value,
        "reason": run.reason,
        "preempted_by": run.preempted_by,
        "rule": run.rule.value if run.rule is not None else "",
        "evict_at_seconds": None if run.evict_at_us is None else seconds(run.evict_at_us),
        "lost_seconds": seconds(run.lost_us),
        "pods": run.pods,
        "flavors": run.flavors,
    }


def table(outcome: Outcome) -> RenderableType:
    """What came of it for a terminal of 80 columns or more: figures, tenants, and jobs that still wait, by reason."""
    from rich.console import Group

    figures = figures_of(outcome)
    parts: list[RenderableType] = [_figures_table(figures), "", _tenants_table(figures)]
    waiting = [each for each in outcome.jobs if each.state in _WAITING]
    came = waiting if outcome.until_us is None else [each for each in waiting if each.job.arrival_us <= outcome.until_us]
    if came:
        parts += ["", _waiting_table(came)]
    if len(came) < len(waiting):
        parts += ["", f"jobs that had not arrived yet: {len(waiting) - len(came)}"]
    return Group(*parts)


def lasting(duration: Number) -> str:
    """Seconds as people read them, in the two largest units: `3d4h`, `2h05m`, `4m10s`, `9s`, `0.25s`."""
    if duration < 60:
        return f"{duration:g}s" if duration < 1 else f"{int(duration)}s"
    minutes, rest = divmod(int(duration), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 24 else f"{hours // 24}d{hours % 24}h"


def _figures_table(figures: Figures) -> Table:
    waits = figures.waits
    lines = [
        ("jobs", f"{figures.jobs}, of which {len(waits.values)} were admitted and {figures.finished} finished"),
        ("makespan", lasting(seconds(figures.makespan_us))),
        (
            "wait",
            ", ".join(
                (f"mean {lasting(waits.mean())}", *(f"p{each} {lasting(waits.percentile(each))}" for each in (50, 95, 99)))
            ),
        ),
        ("completion", f"mean {lasting(mean_seconds(figures.completions))} after arrival"),
        (
            "utilization",
            ", ".join(f"{name} {share:.1%}" for name, share in figures.utilization().items()) or "nothing has a quota",
        ),
        *_evictions(figures),
        ("fairness", f"{figures.jain():.3f} (Jain's index; 1 is even)"),
    ]
    drawn = _plain_table(("", False), ("", False))
    drawn.show_header = False
    for name, text in lines:
        drawn.add_row(_text(name, "bold"), _text(text))
    return drawn


def _evictions(figures: Figures) -> Iterator[tuple[str, str]]:
    """Who had to make room by which rule, what else ended runs, and what work that lost."""
    rules = ", ".join(f"{rule} {figures.rules[rule]}" for rule in PreemptionRule if figures.rules[rule])
    yield "preemptions", f"{figures.preemptions}" + (f" ({rules})" if rules else "")
    others = ", ".join(f"{figures.ended[each]} {each}" for each in _OTHER_ENDS if figures.ended[each])
    if others:
        yield "other ends", others
    if figures.lost_us:
        parts = (f"{lasting(_resource_seconds(name, amount))} of {name}" for name, amount in sorted(figures.lost.items()))
        yield "lost work", ", ".join((f"{lasting(seconds(figures.lost_us))} of runs", *parts))


def _tenants_table(figures: Figures) -> Table:
    main = max(figures.held, key=lambda name: (figures.utilization().get(name, 0.0), name), default=None)
    titles: tuple[str, ...] = ("jobs", "finished", "mean wait", "p95 wait", f"% of {main}-s" if main else "share")
    if figures.preemptions:
        titles = (*titles[:2], "preempted", *titles[2:])
    drawn = _plain_table(("tenant", False), *((title, True) for title in titles))
    for name, of_one in list(figures.tenants.items())[:_MOST_TENANTS]:
        share = of_one.held.get(main, 0) / figures.held[main] if main and figures.held[main] else 0.0
        waits = of_one.waits
        cells = (lasting(waits.mean()), lasting(waits.percentile(95))) if waits.values else ("-", "-")
        counts = [of_one.jobs, of_one.finished, *([of_one.ended[RunOutcome.PREEMPTED]] if figures.preemptions else [])]
        drawn.add_row(_text(name or "(none)"), *map(str, counts), *cells, f"{100 * share:.1f}")
    if len(figures.tenants) > _MOST_TENANTS:
        drawn.add_row(_text(f"and {len(figures.tenants) - _MOST_TENANTS} more"))
    return drawn


def _waiting_table(waiting: Sequence[JobOutcome]) -> Table:
    """Jobs with one tenant, reason and message are one line; the oldest stands for them."""
    alike: dict[tuple[str, str, str], list[JobOutcome]] = {}
    for each in waiting:
        alike.setdefault((each.tenant, each.reason.value if each.reason else each.state.value, each.message), []).append(each)
    drawn = _plain_table(("still waiting", False), ("reason", False), ("", False))
    for (_, reason, message), jobs in list(alike.items())[:_MOST_REASONS]:
        more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
        drawn.add_row(_text(f"{jobs[0].job.namespace}/{jobs[0].job.name}{more}"), _text(reason, "yellow"), _text(message))
    if len(alike) > _MOST_REASONS:
        rest = sum(len(jobs) for jobs in list(alike.values())[_MOST_REASONS:])
        drawn.add_row(_text(f"and {rest} more"), _text(""), _text("-o json has them all"))
    return drawn


def _plain_table(*columns: tuple[str, bool]) -> Table:
    """A table without lines, of (title, whether it is of figures)."""
    from rich.table import Table

    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title, of_figures in columns:
        drawn.add_column(title, justify="right" if of_figures else "left", no_wrap=of_figures, overflow="fold")
    return drawn


def _text(text: str, style: str = "") -> RenderableType:
    """Text as it is: names may hold what would be markup."""
    from rich.text import Text

    return Text(text, style=style)
