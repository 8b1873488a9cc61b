"""The contract that a run is under: what its class promises it, and what limits it."""

from __future__ import annotations

from dataclasses import dataclass

from aiqueue.admission.engine.instants import SECOND
from aiqueue.admission.engine.routes import BUILT_IN_CLASS, class_of
from aiqueue.queue.records import Configuration, Workload


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for the run of a workload as things are configured now. Times in microseconds.

    Attributes:
        priority: that of its class.
        preemptible: whether it may be told to make room for others.
        min_runtime_us: that others leave it alone for, from the start of each run.
        grace_us: from the notice to the end.
        limit_us: how long this run may last; None for as long as it takes.
        ready_us: how long its gang may take to be ready.
        recovery_us: how long its gang may take to be ready again.
    """

    priority: int = 0
    preemptible: bool = True
    min_runtime_us: int = 0
    grace_us: int = 0
    limit_us: int | None = None
    ready_us: int = 0
    recovery_us: int = 0


def terms_of(configuration: Configuration, workload: Workload) -> Terms:
    """The terms of a workload that runs. One whose class is gone is under the built-in one.

    Of the limits of class and owner the lesser holds, and no run may last longer than what is left of maxTotalRuntime.
    """
    cls = class_of(configuration, workload) or BUILT_IN_CLASS
    limits = [cls.max_runtime_seconds, workload.max_runtime_seconds]
    if cls.max_total_runtime_seconds is not None:
        limits.append(max(0, cls.max_total_runtime_seconds - workload.ran_seconds))
    known = [seconds for seconds in limits if seconds is not None]
    return Terms(
        cls.priority,
        cls.preemptible,
        cls.min_runtime_seconds * SECOND,
        cls.grace_period_seconds * SECOND,
        min(known) * SECOND if known else None,
        cls.ready_timeout_seconds * SECOND,
        cls.recovery_timeout_seconds * SECOND,
    )
