"""Faults in who has to make room, and in what is promised to him and to whom he makes it."""

from __future__ import annotations

from fault import of

CONTRACT = (
    *of(
        "tree",
        (
            "as-if-they-had-left",
            "return self.left() if self.actual is None else min(self.left(), self.actual.left())",
            "return self.left()",
            "What is let in has to fit beside those who make room as long as they are there.",
        ),
    ),
    *of(
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
    *of(
        "runs",
        (
            "saved-work-is-lost",
            "return elapsed % (every * SECOND) if every else elapsed",
            "return elapsed",
            "What was saved is not lost.",
        ),
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
    *of(
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
    *of(
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
    *of(
        "turns",
        (
            "own-before-others",
            "return (lane.own, head.rank) if head is not None else _NOWHERE",
            "return (False, head.rank) if head is not None else _NOWHERE",
            "Of equal shares other tenants are asked before the asker's own.",
        ),
    ),
    *of(
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
    *of(
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
    *of(
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
    *of(
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
    *of(
        "engine",
        (
            "room-that-comes-is-not-seen",
            "if node is not None:  # its room may be claimed now",
            "if node is None:",
            "Room that comes anyway is claimed as soon as it is told.",
        ),
    ),
)
