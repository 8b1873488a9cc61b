"""Faults in what there is, what is asked for, and where it fits."""

from __future__ import annotations

from fault import of

TREE = of(
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

GROUPS = of(
    "groups",
    (
        "asks-for-nothing",
        "for name, amount in totals.items() if amount > 0}",
        "for name, amount in totals.items()}",
        "None of an extended resource is no request for it.",
    ),
    ("one-pod", 'totals["pods"] = pod_set.count', 'totals["pods"] = 1', "Quota for pods counts the pods."),
)

NEEDS = of(
    "needs",
    (
        "no-contradictions",
        "if step.pod_set == before.pod_set",
        "if step.pod_set != before.pod_set",
        "Two flavors of one pod set never contradict each other's labels.",
    ),
)

FLAVORS = of(
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

SEARCH = of(
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

MATCHING = of(
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

SIZES = of(
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
