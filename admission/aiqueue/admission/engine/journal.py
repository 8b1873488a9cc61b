"""What a Plan would change, so that it can be taken back, and done again, at a cost that is the Plan's own size."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[..., object]
Arguments = tuple[object, ...]


class Journal:
    """Steps in the order done, each with its exact inverse over the same arguments."""

    __slots__ = ("_steps", "applied")

    def __init__(self) -> None:
        self._steps: list[tuple[Step, Step, Arguments]] = []
        self.applied = True

    def do(self, step: Step, inverse: Step, *arguments: object) -> None:
        """Do a step and remember how to undo it."""
        step(*arguments)
        self._steps.append((step, inverse, arguments))

    def undo(self) -> bool:
        """Take everything back, last first; False where that was done already."""
        if not self.applied:
            return False
        for _, inverse, arguments in reversed(self._steps):
            inverse(*arguments)
        self.applied = False
        return True

    def redo(self) -> bool:
        """Do everything again where it was taken back; False where it was not."""
        if self.applied:
            return False
        for step, _, arguments in self._steps:
            step(*arguments)
        self.applied = True
        return True


def leave_it(*_: object) -> None:
    """The inverse of waking somebody: who was woken may stay awake, and is only looked at once more."""
