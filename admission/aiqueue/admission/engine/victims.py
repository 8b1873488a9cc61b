"""Those who were taken so far, and who of them can be put back."""

from __future__ import annotations

from aiqueue.admission.engine.candidates import Candidate, Candidates
from aiqueue.admission.engine.claims import HeldClaim
from aiqueue.admission.engine.runs import Takes
from aiqueue.admission.engine.trial import Trial
from aiqueue.queue.words import PreemptionRule

_OF_OTHERS = (PreemptionRule.WITHIN_NOMINAL, PreemptionRule.FINAL_SHARE, PreemptionRule.INITIAL_SHARE)
_Alike = tuple[str, Takes]


class Victim:
    """One that was taken.

    Attributes:
        rule: by which; None for a run that leaves whatever is decided.
        freed: runs that nobody claims any more by it.
        heirs: which of these were taken in turn.
        dropped: whether it was put back.
    """

    __slots__ = ("candidate", "dropped", "freed", "heirs", "rule")

    def __init__(self, candidate: Candidate, rule: PreemptionRule | None, freed: tuple[Candidate, ...] = ()) -> None:
        self.candidate = candidate
        self.rule = rule
        self.freed = freed
        self.heirs: list[Victim] = []
        self.dropped = False

    def group(self) -> list[Victim]:
        """It and those that cannot be taken without it."""
        return [each for each in (self, *self.heirs) if not each.dropped]


class Victims:
    """All that were taken, in the order taken."""

    def __init__(self, candidates: Candidates, trial: Trial) -> None:
        self._candidates = candidates
        self._trial = trial
        self._taken: list[Victim] = []
        self._loose: list[tuple[Victim, Candidate]] = []  # freed by a claim that was won over, and not taken
        self._unfit: set[_Alike] = set()

    def kept(self) -> list[Victim]:
        """Those that are not put back."""
        return [each for each in self._taken if not each.dropped]

    def take(self, candidate: Candidate, rule: PreemptionRule | None) -> bool:
        """Take one; answers whether there is room then.

        A claim that is won over leaves runs that nobody claims: they leave anyway, so they are taken before anybody else.
        """
        of, trial = candidate.of, self._trial
        freed = self._candidates.in_turn(self._candidates.awaited(of)) if isinstance(of, HeldClaim) else []
        victim = Victim(candidate, rule, tuple(freed))
        self._taken.append(victim)
        self._retake(victim)
        self._loose.extend((victim, each) for each in freed if trial.overlaps(each.takes))
        while self._loose and not trial.fits():
            owner, each = self._loose.pop(0)
            heir = Victim(each, None)
            owner.heirs.append(heir)
            self._taken.append(heir)
            self._retake(heir)
        return trial.fits()

    def _retake(self, victim: Victim) -> None:
        self._trial.free(victim.candidate.takes, victim.candidate.leaf)
        for each in victim.freed:
            self._trial.use(each.takes, each.leaf)

    def _untake(self, victim: Victim) -> None:
        for each in victim.freed:
            self._trial.free(each.takes, each.leaf)
        self._trial.use(victim.candidate.takes, victim.candidate.leaf)

    # Putting back.

    def put_back(self) -> None:
        """Put back whom it takes no longer, from the last but one to the first, until nobody else can be."""
        self._unfit.clear()
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
            skip = victim is kept[-1] or victim.dropped or alike in self._unfit or alike in unlawful
            if not skip and self._try_without(victim, farthest, unlawful):
                some = True
                unlawful.clear()
            if victim.rule in _OF_OTHERS:
                depth = self._trial.meets_at(victim.candidate.leaf)
                farthest = depth if farthest is None else min(farthest, depth)
        return some

    def _try_without(self, victim: Victim, farthest: int | None, unlawful: set[_Alike]) -> bool:
        """Put one back, and those that cannot be taken without it, if the others do; answers whether."""
        group = victim.group()
        for each in reversed(group):
            self._untake(each)
        tried = None if victim.freed else (victim.candidate.leaf.name, victim.candidate.takes)
        if not self._trial.fits():
            refused = self._unfit
        elif not self._lawful_without(victim, group, farthest):
            refused = unlawful
        else:
            for each in group:
                each.dropped = True
            if victim.freed:  # what it freed is claimed again: there may be more room than before
                self._unfit.clear()
            return True
        if tried is not None:
            refused.add(tried)
        for each in group:
            self._retake(each)
        return False

    def _lawful_without(self, victim: Victim, group: list[Victim], farthest: int | None) -> bool:
        """Whether each of the others, in turn, is taken by its rule where these are put back."""
        if farthest is None:
            return True
        if not victim.freed and self._trial.meets_at(victim.candidate.leaf) <= farthest:
            return True  # it adds nothing to the asker's side of what any later one was compared with
        rest = [each for each in self.kept() if each not in group]
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
