"""Faults that somebody might put into the engine, one line each, and the promise that each breaks.

`make mutants` puts each into a copy of the engine and runs the engine's tests on it; a fault that they do not notice is a test
that is missing. `unit/test_mutants.py` sees to it that every fragment is still found exactly once.
"""

from __future__ import annotations

from fault import ROOT, Fault, FragmentNotFound, with_fault
from faults_of_contract import CONTRACT
from faults_of_order import BOUNDS, ORDER, VERDICTS, WAITING
from faults_of_places import FLAVORS, GROUPS, MATCHING, NEEDS, SEARCH, SIZES, TREE

__all__ = ["FAULTS", "ROOT", "Fault", "FragmentNotFound", "with_fault"]

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
