"""Faults in who goes first, who waits and what is said of it."""

from __future__ import annotations

from fault import Fault, of

ORDER = (
    *of(
        "routes",
        (
            "weight-0-is-a-weight",
            "0 if queue.weight > 0 else 1",
            "0 if queue.weight >= 0 else 1",
            "A queue of weight 0 comes last.",
        ),
        (
            "default-class-wins",
            "name = asking.class_name or (queue.default_class if queue is not None else None)",
            "name = (queue.default_class if queue is not None else None) or asking.class_name",
            "A queue's default class is for work that names none.",
        ),
    ),
    *of(
        "tournament",
        (
            "share-before-borrowing",
            "return (borrows, infinite, share, -winner.priority, 0, winner.age)",
            "return (infinite, share, borrows, -winner.priority, 0, winner.age)",
            "Who need not borrow what is asked for goes before who must.",
        ),
        (
            "lower-priority-first",
            "share, -winner.priority",
            "share, winner.priority",
            "Of equal shares the higher priority goes first.",
        ),
    ),
    *of(
        "shares",
        (
            "lendable-is-the-subtree",
            "+ parent.cell(pair).potential",
            "+ parent.cell(pair).subtree",
            "A share is measured by what the parent could ever use.",
        ),
        (
            "resources-add-up",
            "most = max(most, borrowed * factor)",
            "most = most + borrowed * factor",
            "A share is that of the resource that is borrowed most.",
        ),
        (
            "weight-the-wrong-way",
            "over * weight.denominator // (lendable[resource] * weight.numerator)",
            "over * weight.numerator // (lendable[resource] * weight.denominator)",
            "Twice the weight may borrow twice as much.",
        ),
    ),
    Fault(
        "usage-decays-in-a-line",
        "queue/aiqueue/queue/usage.py",
        "self.value * exp(-passed)",
        "self.value * max(0.0, 1 - passed)",
        "Usage is the exact integral, halved every half-life.",
    ),
    Fault(
        "usage-in-raw-units",
        "queue/aiqueue/queue/usage.py",
        "usages[resource].at(moment) / of_tree",
        "usages[resource].at(moment)",
        "Resources are measured by what the tree has of them.",
    ),
    *of(
        "ordering",
        (
            "who-used-most-first",
            "enumerate(sorted(set(used.values())))",
            "enumerate(sorted(set(used.values()), reverse=True))",
            "The queue that used less goes first.",
        ),
    ),
)

WAITING = (
    *of(
        "buckets",
        (
            "strict-is-passed",
            "return first[1] if first is not None and (item is None or first[0] < item) else None",
            "return first[1] if first is not None and (item is None or first[0] > item) else None",
            "The head of a Strict tenant blocks those behind it, and not those before it.",
        ),
        (
            "always-reserves",
            " and record.reclaim is not Reclaim.ANY",
            "",
            "A Strict head that can always take its own back reserves nothing.",
        ),
        (
            "one-gang-is-kept-room-for",
            "reserved |= guard.cells",
            "reserved = guard.cells",
            "What any starving gang before it may need is left alone.",
        ),
    ),
    *of(
        "standings",
        (
            "waits-since-creation",
            "since = max(head.entry[0], bucket.open_since, micros(until) if until is not None else 0)",
            "since = head.entry[0]",
            "The starvation bound counts from when a workload might first have been let in.",
        ),
        (
            "one-microsecond-late",
            "if self.clock is not None and bucket.deadline <= self.clock:",
            "if self.clock is not None and bucket.deadline < self.clock:",
            "A gang starves from its deadline on, to the microsecond.",
        ),
        (
            "room-to-spare-wakes",
            "while len(lot) and lot.first[0] <= room:",
            "while len(lot) and lot.first[0] < room:",
            "A parked workload is woken when there is just enough room for it.",
        ),
        (
            "behind-forever",
            "(not bucket.stakes or self._kept_from(bucket) != bucket.stakes)",
            "not bucket.stakes",
            "Who stood behind a gang that starved goes on when that is gone.",
        ),
    ),
    *of(
        "backlog",
        (
            "back-off-ends-late",
            "(self.clock is None or micros(until) > self.clock):",
            "(self.clock is None or micros(until) >= self.clock):",
            "A back-off ends at its time.",
        ),
    ),
    *of(
        "starvation",
        (
            "champion-keeps-itself-back",
            "if champion is None or champion.line is bucket.line:",
            "if champion is None or champion.line is not bucket.line:",
            "Of those who are overdue the champion keeps the others back, and nobody keeps it back.",
        ),
    ),
    *of(
        "contest",
        (
            "reserves-what-it-uses",
            "min(amount, cell.nominal - cell.usage)",
            "min(amount, cell.nominal)",
            "A Strict head reserves what its tenant may still use of its nominal, and no more.",
        ),
        (
            "looks-at-nobody-again",
            "self._look_round(root, contender.placement.takes)",
            "pass",
            "After every admission places and shares are looked at anew.",
        ),
    ),
)

BOUNDS = (
    *of(
        "contest",
        (
            "one-admission-too-many",
            "return max(len(draft.admissions), len(draft.evictions)) >= self._max_admissions or",
            "return max(len(draft.admissions), len(draft.evictions)) > self._max_admissions or",
            "A Plan is bounded.",
        ),
    ),
    *of(
        "engine",
        (
            "evictions-wait-unasked",
            "cut = cut or contest.cut or rendered.more",
            "cut = contest.cut or rendered.more",
            "A Plan that was cut asks to be followed by another at once.",
        ),
        (
            "runs-twice",
            "if workload.id in self._runs.of_workload:",
            "if workload.id in self._returning:",
            "A workload whose run is still open is not admitted again.",
        ),
    ),
    *of(
        "journal",
        (
            "first-step-stays",
            "for _, inverse, arguments in reversed(self._steps):",
            "for _, inverse, arguments in reversed(self._steps[1:]):",
            "A Plan that is not confirmed leaves no trace.",
        ),
    ),
)

VERDICTS = (
    *of(
        "verdicts",
        (
            "blames-the-leaf",
            "blocking = cell.refusing(least.requested).blocks(least.requested)[-1][0]",
            "blocking = cell",
            "A verdict names who holds what is waited for, wherever in the tree that is.",
        ),
        (
            "hold-after-class",
            "elif own is not None and own[0] is Reason.WORKLOAD_HELD:",
            "elif own is not None and own[0] is Reason.BACKOFF:",
            "Each workload has the one reason that comes first.",
        ),
        (
            "stays-in-the-ledger",
            "withdrawn_workloads.append(workload_id)",
            "continue",
            "A verdict that no longer stands is taken back.",
        ),
    ),
    *of("reasons", ("six-holders", "MAX_HOLDERS = 5", "MAX_HOLDERS = 6", "A verdict names up to five holders.")),
    *of(
        "runs",
        (
            "holders-stay",
            "cell.holders.remove(holder)",
            "cell.holders.peek()",
            "Who gave its quota back is no longer named as a holder.",
        ),
    ),
)
