"""What is wrong with documents, collected so that one reading finds everything."""

from __future__ import annotations

from collections.abc import Sequence

from aiqueue.queue.errors import InvalidDocument, InvalidInput

_SHOWN_CHARACTERS = 80
#: A file that is wrong throughout must not print a page for each of its lines.
MAX_PROBLEMS = 100


class Phrase(str):
    """A description that stands in an error where a value would, without quotes: `spec.tenant is missing`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


MISSING = Phrase("missing")


class InvalidDocuments(InvalidInput):
    """Several things are wrong. `field`, `value`, `fix` and `where` are those of the first.

    Attributes:
        errors: every one of them, in the order of the documents.
    """

    def __init__(self, errors: Sequence[InvalidInput]) -> None:
        first = errors[0]
        super().__init__(first.field, first.value, first.fix, where=first.where)
        self.errors = tuple(errors)
        self.args = ("\n".join(str(error) for error in self.errors),)


class Problems:
    """What was found so far. `where` names the document that is being read."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.errors: list[InvalidInput] = []

    def add(self, field: str, value: object, fix: str) -> None:
        """Note that `field` holds `value`, and what to write instead."""
        if len(self.errors) < MAX_PROBLEMS:
            self.errors.append(InvalidDocument(field, shown(value), fix, where=self.where))


def shown(value: object) -> object:
    """The value itself if it is short, else what it is."""
    if isinstance(value, dict):
        return Phrase(f"a mapping of {len(value)} fields")
    if isinstance(value, list):
        return Phrase(f"a list of {len(value)}")
    if isinstance(value, str) and not isinstance(value, Phrase) and len(value) > _SHOWN_CHARACTERS:
        return value[:_SHOWN_CHARACTERS] + "..."
    return value


def raise_if_any(errors: Sequence[InvalidInput]) -> None:
    """Raise what was found.

    Raises:
        InvalidInput: the only error, or an InvalidDocuments that holds them all.
    """
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise InvalidDocuments(errors[:MAX_PROBLEMS])
