"""Faults that somebody might put into the engine, one line each, and the promise that each breaks.

`make mutants` puts each into a copy of the engine and runs the engine's tests on it; a fault that they do not notice is a test
that is missing. `unit/test_mutants.py` sees to it that every fragment is still found exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE = "admission/aiqueue/admission/engine"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        name: unique; the part of the engine first.
        file: relative to the repository.
        fragment: text of one line that stands in the file exactly once.
        instead: what stands there with the fault.
        breaks: the promise, as a sentence.
    """

    name: str
    file: str
    fragment: str
    instead: str
    breaks: str


class FragmentNotFound(Exception):
    """A fragment does not stand in its file exactly once: the engine was changed, so change the table too."""


def with_fault(fault: Fault, text: str) -> str:
    """The text of the fault's file with the fault in it.

    Raises:
        FragmentNotFound: the fragment is not there exactly once.
    """
    count = text.count(fault.fragment)
    if count != 1:
        raise FragmentNotFound(f"{fault.name}: {fault.fragment!r} stands {count} times in {fault.file}: it must be there once")
    return text.replace(fault.fragment, fault.instead)


def _of(module: str, *faults: tuple[str, str, str, str]) -> tuple[Fault, ...]:
    """Faults of one module of the engine."""
    return tuple(Fault(f"{module}-{name}", f"{ENGINE}/{module}.py", *rest) for name, *rest in faults)


TREE = _of(
    "tree",
    (
        "lends-what-is-guaranteed",
        "below.parent.subtree += below.subtree - below.guaranteed",
        "below.parent.subtree += below.subtree",
        "What a lending limit keeps back is never lent.",
    ),
    (
        "lending-limit-of-nominal",
        "cell.guaranteed = max(0, cell.subtree - cell.lending_limit)",
        "cell.guaranteed = max(0, cell.nominal - cell.lending_limit)",
        "The lending limit of an inner tenant is compared with its subtree's sum.",
    ),
    (
        "borrows-one-too-many",
        "beyond = min(beyond, self.room())",
        "beyond = min(beyond, self.room() + 1)",
        "No admission takes a tenant past its borrowing limit.",
    ),
    (
        "limit-forgets-use",
        "used = max(0, self.usage - self.guaranteed)",
        "used = max(0, -self.guaranteed)",
        "What was borrowed already counts against the borrowing limit.",
    ),
    (
        "flows-up-whole",
        "beyond = amount - cell.local_available()",
        "beyond = amount",
        "What is guaranteed is used without the parent feeling it.",
    ),
    (
        "gives-back-too-much",
        "cell, amount = cell.parent, min(amount, stored)",
        "cell, amount = cell.parent, amount",
        "Usage is the sum of open runs: a run gives back what it took, where it took it.",
    ),
    (
        "ceiling-without-guaranteed",
        "cell.potential = cell.guaranteed + cell.parent.potential",
        "cell.potential = cell.parent.potential",
        "ExceedsCeiling is told of what can never fit, and of nothing else.",
    ),
    (
        "borrows-at-its-quota",
        "return self.usage + amount > self.subtree",
        "return self.usage + amount >= self.subtree",
        "Who stays within its own quota does not borrow.",
    ),
    (
        "level-is-the-root",
        "if not cell.borrows(rest):",
        "if cell.parent is None:",
        "TryNextFlavor takes the flavor that is borrowed from nearest by.",
    ),
    (
        "waits-for-too-much",
        "need -= cell.local_available()",
        "need -= 0",
        "A parked workload is woken as soon as there is room for it.",
    ),
    (
        "open-under-a-drained-parent",
        "node.record.state is not ObjectState.ACTIVE",
        "node.record.state is ObjectState.HOLD",
        "Nothing is admitted under a tenant that is not Active.",
    ),
)

GROUPS = _of(
    "groups",
    (
        "asks-for-nothing",
        "for name, amount in totals.items() if amount > 0}",
        "for name, amount in totals.items()}",
        "None of an extended resource is no request for it.",
    ),
    ("one-pod", 'totals["pods"] = pod_set.count', 'totals["pods"] = 1', "Quota for pods counts the pods."),
)

NEEDS = _of(
    "needs",
    (
        "no-contradictions",
        "if step.pod_set == before.pod_set",
        "if step.pod_set != before.pod_set",
        "Two flavors of one pod set never contradict each other's labels.",
    ),
)

FLAVORS = _of(
    "flavors",
    (
        "cpu-must-be-listed",
        'if "/" in resource:',
        "if resource:",
        "cpu, memory and the like are limited only where they are listed.",
    ),
    (
        "prefers-the-first-place",
        "search(needs, Bound.NOMINAL) or search(needs, Bound.NONE)",
        "search(needs, Bound.NONE)",
        "A Strict head reserves where it is all within the tenant's nominal, if there is such a place.",
    ),
)

SEARCH = _of(
    "search",
    (
        "pod-sets-do-not-add-up",
        "wanted = amount + assumed.get(cell, 0) if assumed else amount",
        "wanted = amount",
        "Pod sets that share a flavor need the sum of what they ask for.",
    ),
    (
        "order-before-level",
        "key=lambda index: (levels[index], index)",
        "key=lambda index: (index, levels[index])",
        "TryNextFlavor prefers a flavor that need not be borrowed to one before it that must be.",
    ),
    (
        "never-goes-back",
        ".options[chosen.pop()], -1)",
        ".options[chosen.pop()], 0)",
        "An earlier pod set makes room where a later one would otherwise not fit.",
    ),
    (
        "waits-for-the-most",
        "short[cell] = min(wanted, short.get(cell, wanted))",
        "short[cell] = max(wanted, short.get(cell, wanted))",
        "A parked workload is woken by the least that may let it in.",
    ),
    (
        "starving-keep-their-neighbours-own",
        "(cell.borrows(wanted) and cell.reaches(wanted, guards[1]))",
        "cell.reaches(wanted, guards[1])",
        "A gang that starves keeps others from borrowing, not from what they own.",
    ),
)

MATCHING = _of(
    "matching",
    (
        "executes-nobody",
        '_REPELLING = ("NoSchedule", "NoExecute")',
        '_REPELLING = ("NoSchedule",)',
        "A taint NoExecute that is not tolerated repels.",
    ),
    ("not-in", "return label not in requirement.values", "return label in requirement.values", "NotIn is not In."),
    (
        "greater-or-equal",
        "return number > bound if",
        "return number >= bound if",
        "Gt is strictly greater, as for the scheduler.",
    ),
    (
        "half-a-term-is-enough",
        "return all(_meets(",
        "return any(_meets(",
        "All requirements of one term of the affinity have to be met.",
    ),
)

ORDER = (
    *_of(
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
    *_of(
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
    *_of(
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
    *_of(
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
    *_of(
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
    *_of(
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
    *_of(
        "backlog",
        (
            "back-off-ends-late",
            "(self.clock is None or micros(until) > self.clock):",
            "(self.clock is None or micros(until) >= self.clock):",
            "A back-off ends at its time.",
        ),
    ),
    *_of(
        "starvation",
        (
            "champion-keeps-itself-back",
            "if champion is None or champion.line is bucket.line:",
            "if champion is None or champion.line is not bucket.line:",
            "Of those who are overdue the champion keeps the others back, and nobody keeps it back.",
        ),
    ),
    *_of(
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
    *_of(
        "contest",
        (
            "one-admission-too-many",
            "return max(len(draft.admissions), len(draft.evictions)) >= self._max_admissions or",
            "return max(len(draft.admissions), len(draft.evictions)) > self._max_admissions or",
            "A Plan is bounded.",
        ),
    ),
    *_of(
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
    *_of(
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
    *_of(
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
    *_of("reasons", ("six-holders", "MAX_HOLDERS = 5", "MAX_HOLDERS = 6", "A verdict names up to five holders.")),
    *_of(
        "runs",
        (
            "holders-stay",
            "cell.holders.remove(holder)",
            "cell.holders.peek()",
            "Who gave its quota back is no longer named as a holder.",
        ),
    ),
)

SIZES = _of(
    "sizes",
    (
        "shrinks-too-far",
        "each.count - delta * step // steps",
        "each.count + (-delta * step) // steps",
        "Elastic work loses no more of a pod set at a step than its part, rounded down.",
    ),
    (
        "less-than-claimed",
        "last = self.last if at_least is None else self.step_of(at_least)",
        "last = self.last",
        "A claimant is admitted at no smaller a size than it claimed.",
    ),
    (
        "skips-a-size",
        "low = middle + 1",
        "low = middle + 2",
        "Elastic work is admitted at the largest size that fits.",
    ),
)

CONTRACT = (
    *_of(
        "tree",
        (
            "as-if-they-had-left",
            "return self.left() if self.actual is None else min(self.left(), self.actual.left())",
            "return self.left()",
            "What is let in has to fit beside those who make room as long as they are there.",
        ),
    ),
    *_of(
        "endings",
        (
            "grace-forgotten",
            "deadline = moment(now_us + run.terms.grace_us)",
            "deadline = moment(now_us)",
            "A drained run has the grace of its class.",
        ),
        (
            "told-when-it-is-over",
            "told_us = run.opened_us + max(0, terms.limit_us - terms.grace_us)",
            "told_us = run.opened_us + max(0, terms.limit_us)",
            "Whose time is up is told its grace before.",
        ),
    ),
    *_of(
        "runs",
        (
            "ends-before-its-minimal-runtime",
            "return max(now_us + self.terms.grace_us, self.opened_us + self.terms.min_runtime_us)",
            "return now_us + self.terms.grace_us",
            "A run that is put out ends no sooner than its minimal runtime.",
        ),
        (
            "protected-for-its-grace-too",
            "return self.opened_us + max(0, self.terms.min_runtime_us - self.terms.grace_us)",
            "return self.opened_us + self.terms.min_runtime_us",
            "A run is a candidate from its grace before the end of its minimal runtime on.",
        ),
    ),
    *_of(
        "terms",
        (
            "total-anew-each-time",
            "limits.append(max(0, cls.max_total_runtime_seconds - workload.ran_seconds))",
            "limits.append(cls.max_total_runtime_seconds)",
            "maxTotalRuntime limits all runs of a workload together.",
        ),
        (
            "the-longer-limit",
            "min(known) * SECOND if known else None",
            "max(known) * SECOND if known else None",
            "Of the limits of class and owner the lesser holds.",
        ),
    ),
    *_of(
        "candidates",
        (
            "nobody-is-safe",
            "if not terms.preemptible or run.evict_at is not None or run.claimant is not None:",
            "if run.evict_at is not None or run.claimant is not None:",
            "Who is not preemptible is put out for nobody.",
        ),
        (
            "equal-priority-too",
            "return self.priority - 1 if record.within_tenant is WithinTenant.LOWER_PRIORITY else -inf",
            "return self.priority if record.within_tenant is WithinTenant.LOWER_PRIORITY else -inf",
            "LowerPriority puts out strictly lower priorities.",
        ),
        (
            "older-ones-too",
            "or candidate.rank[0] < self.priority or candidate.age > self.age",
            "or candidate.rank[0] <= self.priority",
            "Of its own tenant and priority a workload puts out only younger ones.",
        ),
        (
            "saved-work-is-lost",
            "lost %= workload.checkpoint_seconds * SECOND",
            "lost += 0",
            "What was saved is not lost.",
        ),
        (
            "first-in-first-out",
            "return (run.terms.priority, lost, -run.opened_us, workload.id, run.run_id)",
            "return (run.terms.priority, lost, run.opened_us, workload.id, run.run_id)",
            "Of equal losses the last to be let in is put out first.",
        ),
        (
            "shares-for-ever",
            "return self.of.attempt <= SHARE_RUNS",
            "return True",
            "Nobody is put out for shares' sake more than five times.",
        ),
    ),
    *_of(
        "turns",
        (
            "own-before-others",
            "return (lane.own, head.rank) if head is not None else _NOWHERE",
            "return (False, head.rank) if head is not None else _NOWHERE",
            "Of equal shares other tenants are asked before the asker's own.",
        ),
    ),
    *_of(
        "trial",
        (
            "borrowed-or-not",
            "if cell is not None and cell.usage > cell.subtree:",
            "if cell is not None:",
            "From other tenants only what they borrow is taken.",
        ),
        (
            "equal-shares-are-traded",
            "return self.share(mine) < self.share(theirs)",
            "return self.share(mine) <= self.share(theirs)",
            "Two equal shares do not trade room for ever.",
        ),
        (
            "compared-with-the-run-still-there",
            "holds = least <= self.share(theirs)",
            "holds = True",
            "By the final share nobody is left with less than who put it out has.",
        ),
    ),
    *_of(
        "victims",
        (
            "takes-more-than-it-needs",
            "if not skip and self._try_without(victim, farthest, unlawful):",
            "if not skip and False:",
            "Nobody is put out who could be left out.",
        ),
        (
            "own-victims-put-back-blindly",
            "elif not self._lawful_without(victim, farthest):",
            "elif False:",
            "Victims are validated again when one is put back.",
        ),
    ),
    *_of(
        "claims",
        (
            "over-too-soon",
            "if self._apart[top]:",
            "if self._apart[top] > 1:",
            "As long as somebody makes room, what is let in has to fit beside all that still runs.",
        ),
        (
            "forgets-whom-it-waited-for",
            "run.claimant = None",
            "run.claimant = run.claimant",
            "When a claim ends, those it waited for count as leaving for anybody.",
        ),
    ),
    *_of(
        "preempting",
        (
            "claims-for-ever",
            "if pending.bucket.shut or any(cell.left() < 0 for cell, _ in held.takes):",
            "if pending.bucket.shut:",
            "A claim that can no longer be met is withdrawn.",
        ),
        (
            "kept-from-its-claim",
            "for line, _ in kept:  # what was kept for others since is none of it",
            "for line, _ in kept[:0]:",
            "What a Strict head comes to keep later is nothing that was claimed.",
        ),
    ),
    *_of(
        "engine",
        (
            "room-that-comes-is-not-seen",
            "if node is not None:  # its room may be claimed now",
            "if node is None:",
            "Room that comes anyway is claimed as soon as it is told.",
        ),
    ),
)

FAULTS: tuple[Fault, ...] = (
    *TREE,
    *GROUPS,
    *NEEDS,
    *FLAVORS,
    *SEARCH,
    *SIZES,
    *MATCHING,
    *ORDER,
    *WAITING,
    *BOUNDS,
    *VERDICTS,
    *CONTRACT,
)
