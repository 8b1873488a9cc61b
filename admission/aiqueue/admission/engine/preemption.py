"""Whom a workload may have put out: the search for victims.

See `find`.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiqueue.admission.engine.candidates import Asking, Candidate, Candidates
from aiqueue.admission.engine.runs import OpenRun, Takes
from aiqueue.admission.engine.shares import Scales
from aiqueue.admission.engine.tree import TenantNode
from aiqueue.admission.engine.trial import Trial
from aiqueue.admission.engine.turns import Lane, Turns
from aiqueue.admission.engine.victims import Victims
from aiqueue.queue.words import PreemptionRule

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
    victims = Victims(candidates, trial)
    try:
        trial.enter()
        if not _select(asking, candidates, trial, victims):
            return None
        victims.put_back()
    finally:
        trial.restore()
    kept = victims.kept()
    candidates.leave([each.candidate.of for each in kept if isinstance(each.candidate.of, OpenRun)], asking.leaf.root)
    return Found(tuple((each.candidate, each.rule) for each in kept))


def hopeful(asking: Asking, candidates: Candidates, scales: Scales) -> bool:
    """Whether a search is worth while: never False where `find` would find something."""
    trial = Trial(asking.leaf, asking.takes, scales)
    if not trial.needed:
        return False
    if any(trial.needs(each.takes, each.leaf) for each in candidates.evicting(asking.leaf.root)):
        return True
    if _may_ask_some(asking, candidates, trial, asking.leaf):
        return True
    others = [
        leaf
        for leaf in asking.leaf.root.leaves
        if leaf is not asking.leaf
        and all(map(trial.borrows, trial.way(leaf)))
        and _may_ask_some(asking, candidates, trial, leaf)
    ]
    if not others:
        return False
    try:
        trial.enter()
        return trial.within_nominal() or any(map(trial.is_less, others))
    finally:
        trial.restore()


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
    turns.again()
    while (lane := turns.next()) is not None:
        candidate = lane.head()
        lane.end()
        if candidate is not None and trial.is_less(lane.leaf) and victims.take(candidate, PreemptionRule.INITIAL_SHARE):
            return True
    return False


def _first_rule(lane: Lane, trial: Trial) -> PreemptionRule | None:
    """By which rule the first of a leaf is taken, once those before it were refused; None where all were."""
    if lane.own:
        return PreemptionRule.WITHIN_TENANT
    if trial.within_nominal():
        return PreemptionRule.WITHIN_NOMINAL
    if not trial.is_less(lane.leaf):
        lane.refuse()
        lane.end()
        return None
    refused: set[Takes] = set()
    while (candidate := lane.head()) is not None:
        if candidate.takes not in refused:
            if trial.stays_no_more(lane.leaf, candidate.takes):
                return PreemptionRule.FINAL_SHARE
            refused.add(candidate.takes)
        lane.refuse()
    return None


# Hoping.


def _may_ask_some(asking: Asking, candidates: Candidates, trial: Trial, leaf: TenantNode) -> bool:
    """Whether the policy of the asker's tenant lets it ask anybody of a leaf."""
    highest = asking.highest(leaf)
    for pair in trial.needed:
        for priority, age in candidates.youngest(leaf, pair, but=asking.age[3]):
            if priority <= highest and (leaf is not asking.leaf or priority < asking.priority or age > asking.age):
                return True
    return False
