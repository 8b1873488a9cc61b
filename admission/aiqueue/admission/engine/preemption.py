"""Whom a workload may have put out: the search for victims.

What it asks for is charged first. Needed is what there is too little of then. Who may be asked, and in which order inside a leaf, is
told by `candidates.py`; which leaf is asked next by `turns.py`. Then, one after the other, until there is room:

1. runs that leave whatever is decided and that nobody claims, by no rule;
2. of the asker's own tenant, whom its policy allows (WithinTenant);
3. of tenants that borrow, if with all of it the asker's tenant uses no more than its own of all that is needed (WithinNominal);
4. else by shares, compared between the two tenants below the lowest that asker and candidate have in common: the asker's side
   with what it asks for (newP), the other with the candidate (oldT) and without (newT). newP <= newT and newP < oldT: FinalShare;
5. where that is not enough, of each leaf the first that 4 refused, if newP < oldT: InitialShare.

4 and 5 take only runs of workloads that had few before (`SHARE_RUNS`). A claim is never taken, nor a run that one waits for.

At last whoever can be spared is put back (`victims.py`). What is left is minimal: without any part of it either there is no room,
or a rule by which another was taken does not hold in its turn. To look at single victims is enough for that. What one victim adds
when it is put back counts against the rules only on the asker's side of where they compare, so it can break the rule of those
alone that were taken from farther away in the tree. Hence if a smaller set will do, so does the whole without the farthest of the
victims that are too many.

Why nobody is put out back and forth. Take V, who was put out for P, and ask by which rule V could have P put out:

- WithinTenant: higher priority, then (where the policy says so) greater age. That is a strict order, and P is above V in it.
- WithinNominal for P: V's tenant borrowed and P's did not, and P's is safe as long as it does not.
- FinalShare for P: without V, V's side has a share no smaller than P's. With V again it has more, so it is not the lesser one,
  unless lower work of V's own tenant has to go as well; which then is out for good by priority.
- FinalShare or WithinNominal for V after P came by shares: newP < oldT, so V's side with V again is not the lesser one; V may
  get P out as part of its own nominal, and then it is P's side that is above its own, and P does not get that back.
- InitialShare is not safe by itself. When it takes several, or others come in between, V's side may come to be the lesser one.

Equal shares are never traded, since newP < oldT is strict. Candidates are compared as things stand after each that is taken, and
all of it is checked once more, in the order taken, when somebody is put back: else own victims that were put back could have been
the reason why others were taken.

By itself each of the other rules is an order. Together they can go round: A above B in their tenant, B takes its nominal back from
C, and C has the smaller share than A. Every such round has a step by shares in it, as has every one by InitialShare: WithinTenant
goes up in its order, and WithinNominal takes from who borrows for who does not. So those steps are counted: no workload is put out by
shares but in the first `SHARE_RUNS` of its runs. n workloads that are left to themselves are put out by shares `SHARE_RUNS` * n times
at most, and then no round is left.

What is not proven. That WithinTenant and WithinNominal cannot go round by themselves is argued above, not proven, where a workload is
within its nominal of one flavor and borrows another; none is known, nor found by drawing (tests/property/test_engine_victims.py).
And the bound is not on what may be lost before it is reached: each turn costs a notice with its grace, and the minimal runtime of
the class, so it happens at that pace and not at that of decisions; a minRuntime bounds what is lost. Runs are counted whatever ended
them, so a workload that was drained five times is put out by shares no more.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiqueue.admission.engine.candidates import Asking, Candidate, Candidates
from aiqueue.admission.engine.runs import Takes
from aiqueue.admission.engine.shares import Scales
from aiqueue.admission.engine.tree import TenantNode
from aiqueue.admission.engine.trial import Trial
from aiqueue.admission.engine.turns import Lane, Turns
from aiqueue.admission.engine.victims import Victims
from aiqueue.queue.words import PreemptionRule, Reclaim

__all__ = ["Asking", "Found", "find", "hopeful"]


@dataclass(frozen=True, slots=True)
class Found:
    """Who has to make room, in the order taken, and by which rule; None for runs that leave whatever is decided."""

    victims: tuple[tuple[Candidate, PreemptionRule | None], ...]


def find(asking: Asking, candidates: Candidates, scales: Scales) -> Found | None:
    """Find victims that make room for somebody, none of whom could be left out.

    Everything is left as it was found. None where no victims make room, and where none have to.
    """
    trial = Trial(asking.leaf, asking.takes, scales)
    if not trial.needed:
        return None
    victims = Victims(trial)
    try:
        trial.enter()
        if not _select(asking, candidates, trial, victims):
            return None
        victims.put_back()
    finally:
        trial.restore()
    kept = victims.kept()
    return Found(tuple((each.candidate, each.rule) for each in kept))


def hopeful(asking: Asking, candidates: Candidates, scales: Scales) -> bool:
    """Whether a search is worth while: never False where `find` would find something."""
    trial = Trial(asking.leaf, asking.takes, scales)
    if not trial.needed:
        return False
    root = asking.leaf.root
    if any(trial.needs(each.takes, each.leaf) for each in candidates.evicting(root)):
        return True
    if _may_ask_some(asking, candidates, trial, asking.leaf):
        return True
    if not root.children or asking.leaf.record.reclaim is Reclaim.NEVER:
        return False
    # With nobody of its own, its side has no smaller share than now. So there has to be one in which it is less than another's.
    try:
        trial.enter()
        nominal = trial.within_nominal()
        for leaf in candidates.borrowers(root, trial.needed):
            if leaf is not asking.leaf and (nominal or trial.is_less(leaf)) and _may_ask_some(asking, candidates, trial, leaf):
                return True
    finally:
        trial.restore()
    return False


# Selecting.


def _select(asking: Asking, candidates: Candidates, trial: Trial, victims: Victims) -> bool:
    """Take victims until there is room; answers whether there is."""
    for each in candidates.evicting(asking.leaf.root):
        if trial.needs(each.takes, each.leaf) and victims.take(each, None):
            return True
    turns = Turns(asking, candidates, trial)
    while (lane := turns.next()) is not None:
        rule = _first_rule(lane, trial)
        candidate = lane.head()
        if rule is not None and candidate is not None:
            lane.step()
            if victims.take(candidate, rule):
                return True
        turns.asked(lane)
    turns.again()
    while (lane := turns.next()) is not None:
        candidate = lane.head()
        lane.end()
        less = candidate is not None and trial.is_less(lane.leaf)
        if less and candidate is not None and victims.take(candidate, PreemptionRule.INITIAL_SHARE):
            return True
        turns.asked(lane)
    return False


def _first_rule(lane: Lane, trial: Trial) -> PreemptionRule | None:
    """By which rule the first of a leaf is taken, once those before it were refused; None where all were."""
    if lane.own:
        return PreemptionRule.WITHIN_TENANT
    if trial.within_nominal():
        return PreemptionRule.WITHIN_NOMINAL
    if not trial.is_less(lane.leaf):
        while lane.refused is None and lane.head() is not None:
            lane.refuse()
        lane.end()
        return None
    refused: set[Takes] = set()
    while (candidate := lane.head()) is not None:
        if candidate.for_shares() and candidate.takes not in refused:
            if trial.stays_no_more(lane.leaf, candidate.takes):
                return PreemptionRule.FINAL_SHARE
            refused.add(candidate.takes)
        lane.refuse()
    return None


# Hoping.


def _may_ask_some(asking: Asking, candidates: Candidates, trial: Trial, leaf: TenantNode) -> bool:
    """Whether the policy of the asker's tenant lets it ask anybody of a leaf."""
    highest = asking.highest(leaf)
    by_age = leaf is asking.leaf and highest == asking.priority
    for pair in trial.needed:
        if candidates.any_below(leaf, pair, highest - 1 if by_age else highest):
            return True
        if by_age and candidates.any_younger(leaf, pair, asking.priority, asking.age):
            return True
    return False
