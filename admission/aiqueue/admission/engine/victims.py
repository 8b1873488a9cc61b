"""Those who were taken so far, and who of them can be put back."""

from __future__ import annotations

from aiqueue.admission.engine.candidates import Candidate
from aiqueue.admission.engine.runs import Takes
from aiqueue.admission.engine.trial import Trial
from aiqueue.queue.words import PreemptionRule

_OF_OTHERS = (PreemptionRule.WITHIN_NOMINAL, PreemptionRule.FINAL_SHARE, PreemptionRule.INITIAL_SHARE)
_Alike = tuple[str, Takes]


class Victim:
    """One that was taken.

    Attributes:
        rule: by which; None for a run that leaves whatever is decided.
        dropped: whether it was put back.
    """

    __slots__ = ("candidate", "dropped", "rule")

    def __init__(self, candidate: Candidate, rule: PreemptionRule | None) -> None:
        self.candidate = candidate
        self.rule = rule
        self.dropped = False


class Victims:
    """All that were taken, in the order taken."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._taken: list[Victim] = []
        self._unfit: set[_Alike] = set()

    def kept(self) -> list[Victim]:
        """Those that are not put back."""
        return [each for each in self._taken if not each.dropped]

    def take(self, candidate: Candidate, rule: PreemptionRule | None) -> bool:
        """Take one; answers whether there is room then."""
        self._taken.append(Victim(candidate, rule))
        self._trial.free(candidate.takes, candidate.leaf)
        return self._trial.fits()

    def _retake(self, victim: Victim) -> None:
        self._trial.free(victim.candidate.takes, victim.candidate.leaf)

    def _untake(self, victim: Victim) -> None:
        self._trial.use(victim.candidate.takes, victim.candidate.leaf)

    # Putting back.

    def put_back(self) -> None:
        """Put back whom it takes no longer, from the last but one to the first, until nobody else can be."""
        while self._pass():
            pass

    def _pass(self) -> bool:
        """Go through them once; answers whether anybody was put back.

        Usage only grows by it, so who does not fit back never will. And of those of a leaf who hold the same, where one breaks the
        rule by which a later one was taken, those taken before it do as well. So nobody else like them has to be tried.
        """
        kept = self.kept()
        unlawful: set[_Alike] = set()
        farthest: int | None = None  # where those taken later by the rules for other tenants meet the asker, at the least
        some = False
        for victim in reversed(kept):
            alike = (victim.candidate.leaf.name, victim.candidate.takes)
            skip = victim is kept[-1] or alike in self._unfit or alike in unlawful
            if not skip and self._try_without(victim, farthest, unlawful):
                some = True
                unlawful.clear()
            if victim.rule in _OF_OTHERS:
                depth = self._trial.meets_at(victim.candidate.leaf)
                farthest = depth if farthest is None else min(farthest, depth)
        return some

    def _try_without(self, victim: Victim, farthest: int | None, unlawful: set[_Alike]) -> bool:
        """Put one back if the others do; answers whether."""
        self._untake(victim)
        if not self._trial.fits():
            refused = self._unfit
        elif not self._lawful_without(victim, farthest):
            refused = unlawful
        else:
            victim.dropped = True
            return True
        refused.add((victim.candidate.leaf.name, victim.candidate.takes))
        self._retake(victim)
        return False

    def _lawful_without(self, victim: Victim, farthest: int | None) -> bool:
        """Whether each of the others, in turn, is taken by its rule where this one is put back."""
        if farthest is None or self._trial.meets_at(victim.candidate.leaf) <= farthest:
            return True  # it adds nothing to the asker's side of what any later one was compared with
        rest = [each for each in self.kept() if each is not victim]
        for each in reversed(rest):
            self._untake(each)
        lawful = True
        for each in rest:
            lawful = lawful and (each.rule not in _OF_OTHERS or self._lawful(each))
            self._retake(each)
        return lawful

    def _lawful(self, victim: Victim) -> bool:
        """Whether the rule by which one of another tenant was taken holds now."""
        trial, leaf = self._trial, victim.candidate.leaf
        if not all(map(trial.borrows, trial.way(leaf))):
            return False
        if victim.rule is PreemptionRule.WITHIN_NOMINAL:
            return trial.within_nominal()
        if not trial.is_less(leaf):
            return False
        return victim.rule is PreemptionRule.INITIAL_SHARE or trial.stays_no_more(leaf, victim.candidate.takes)
