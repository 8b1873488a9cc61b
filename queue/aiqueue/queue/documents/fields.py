"""Takes typed fields out of one mapping of a document; what is wrong goes to `Problems`, and reading goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from enum import StrEnum
from fractions import Fraction
from typing import Any, TypeVar

from aiqueue.queue.documents.names import is_label_key, is_label_value, is_name
from aiqueue.queue.documents.problems import MISSING, Phrase, Problems
from aiqueue.queue.errors import InvalidQuantity
from aiqueue.queue.units import parse_amount, parse_duration

Word = TypeVar("Word", bound=StrEnum)

MAX_INT32 = 2**31 - 1
MAX_WEIGHT = 1_000_000
_WEIGHT = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,3})?", re.ASCII)
_NAME_RULE = "write lower case letters, digits, '-' and '.', at most 63, a letter or digit at both ends"
_KEY_RULE = "write a name such as cpu or example.com/name"


class Fields:
    """One mapping of a document. Each getter takes its field; `finish` refuses what no getter asked for.

    A getter whose field is absent, or null, gives the default. One whose field is wrong notes the problem and gives the
    default too (or an empty value), so that the rest of the document is read; the result is then thrown away.
    """

    def __init__(self, problems: Problems, path: str, value: object) -> None:
        self.problems = problems
        self.path = path
        self._asked: list[str] = []
        if value is not None and not isinstance(value, dict):
            problems.add(path or "the document", value, "write a mapping of fields")
        self._values: dict[str, Any] = value if isinstance(value, dict) else {}

    def at(self, name: str) -> str:
        """Path of a field, for errors."""
        return f"{self.path}.{name}" if self.path else name

    def add(self, name: str, value: object, fix: str) -> None:
        """Note a problem with a field."""
        self.problems.add(self.at(name), value, fix)

    def take(self, name: str) -> Any:
        """The field as it stands, None if absent."""
        self._asked.append(name)
        return self._values.get(name)

    def finish(self) -> None:
        """Refuse fields that nobody asked for."""
        for name in self._values:
            if name not in self._asked:
                close = get_close_matches(name, self._asked, n=1, cutoff=0.6)
                known = f"did you mean {close[0]}?" if close else f"remove it; known here: {', '.join(self._asked)}"
                self.add(name, Phrase("not a known field"), known)

    def sub(self, name: str) -> Fields:
        """A mapping inside this one; empty if absent."""
        return Fields(self.problems, self.at(name), self.take(name))

    def items(self, name: str) -> list[tuple[str, Any]]:
        """Items of a list with their paths; empty if absent."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.add(name, value, "write a list")
            return []
        return [(f"{self.at(name)}[{index}]", item) for index, item in enumerate(value)]

    def text(self, name: str, check: Callable[[str], bool], rule: str, default: str = "") -> str:
        """Text that satisfies `check`; `rule` says what to write instead."""
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self.add(name, value, "put it in quotes, since it must be text")
        elif not check(value):
            self.add(name, value, rule)
        else:
            return value
        return default

    def name(self, name: str, example: str) -> str:
        """A required name of an object."""
        if self._values.get(name) is None:
            self.take(name)
            self.add(name, MISSING, f"write {example}")
            return ""
        return self.text(name, is_name, _NAME_RULE)

    def optional_name(self, name: str) -> str | None:
        """A name of an object, None if absent."""
        return self.text(name, is_name, _NAME_RULE) or None

    def names(self, name: str) -> tuple[str, ...] | None:
        """A list of different names, None if absent."""
        if self._values.get(name) is None:
            self.take(name)
            return None
        return self.texts(name, is_name, _NAME_RULE)

    def texts(self, name: str, check: Callable[[str], bool], rule: str) -> tuple[str, ...]:
        """A list of different texts that satisfy `check`."""
        found: list[str] = []
        for path, item in self.items(name):
            if not isinstance(item, str) or not check(item):
                self.problems.add(path, item, rule)
            elif item in found:
                self.problems.add(path, item, "list it once")
            else:
                found.append(item)
        return tuple(found)

    def label_key(self, name: str, *, required: bool = True) -> str:
        """A qualified name: the key of a label or taint, or a resource."""
        if required and self._values.get(name) is None:
            self.take(name)
            self.add(name, MISSING, _KEY_RULE)
            return ""
        return self.text(name, lambda text: is_label_key(text) or not (required or text), _KEY_RULE)

    def label_keys(self, name: str) -> tuple[str, ...]:
        """A list of different qualified names."""
        return self.texts(name, is_label_key, _KEY_RULE)

    def label_value(self, name: str) -> str:
        """The value of a label or taint."""
        return self.text(name, is_label_value, "write at most 63 letters, digits, '-', '_' and '.'")

    def labels(self, name: str) -> dict[str, str]:
        """A mapping of label keys to label values."""
        found: dict[str, str] = {}
        sub = self.sub(name)
        for key in sub.given():
            if not is_label_key(key):
                sub.add(key, Phrase("not a label's key"), _KEY_RULE)
            found[key] = sub.label_value(key)
        return found

    def given(self) -> list[str]:
        """Names of the fields that are there."""
        return list(self._values)

    def word(self, name: str, words: type[Word], default: Word) -> Word:
        """A word of a closed list."""
        value = self.take(name)
        if value is None:
            return default
        found = _word(value, words)
        if found is None:
            self.add(name, value, _one_of(value, words))
        return found or default

    def words(self, name: str, words: type[Word], default: tuple[Word, ...]) -> tuple[Word, ...]:
        """A list of different words of a closed list."""
        if self._values.get(name) is None:
            self.take(name)
            return default
        found: list[Word] = []
        for path, item in self.items(name):
            word = _word(item, words)
            if word is None:
                self.problems.add(path, item, _one_of(item, words))
            elif word in found:
                self.problems.add(path, item, "list it once")
            else:
                found.append(word)
        return tuple(found)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.add(name, value, "write true or false")
            return default
        return value

    def integer(self, name: str, default: int, *, least: int, most: int = MAX_INT32) -> int:
        """A whole number between bounds."""
        value = self.take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.add(name, value, f"write a whole number from {least} to {most}")
            return default
        return value

    def weight(self, name: str, default: Fraction = Fraction(1)) -> Fraction:
        """A weight: zero or more, at most three decimals."""
        value = self.take(name)
        if value is None:
            return default
        rule = f"write a number from 0 to {MAX_WEIGHT} with at most three decimals"
        number = not isinstance(value, bool) and isinstance(value, (int, float, str))
        if not number or not _WEIGHT.fullmatch(str(value)) or Fraction(str(value)) > MAX_WEIGHT:
            self.add(name, value, rule)
            return default
        return Fraction(str(value))

    def weights(self, name: str) -> dict[str, Fraction]:
        """A mapping of resources to weights."""
        found: dict[str, Fraction] = {}
        sub = self.sub(name)
        for key in sub.given():
            if not is_label_key(key):
                sub.add(key, Phrase("not a resource"), _KEY_RULE)
            found[key] = sub.weight(key)
        return found

    def duration(self, name: str, default: int, *, least: int = 0) -> int:
        """A duration in seconds."""
        found = self.optional_duration(name, least=least)
        return default if found is None else found

    def optional_duration(self, name: str, *, least: int = 0) -> int | None:
        """A duration in seconds, None if absent."""
        value = self.take(name)
        if value is None:
            return None
        try:
            seconds = parse_duration(value, field=self.at(name))
        except InvalidQuantity as error:
            self.problems.add(error.field, error.value, error.fix)
            return None
        if seconds < least:
            self.add(name, value, f"write at least {least}s")
            return None
        return seconds

    def capacity(self, name: str, resource: str) -> int | None:
        """An amount of capacity in base units of `resource`, rounded down, but not to nothing; None if absent."""
        value = self.take(name)
        if value is None:
            return None
        try:
            amount = parse_amount(resource, value, round_up=False, field=self.at(name))
            if amount == 0 and parse_amount(resource, value) > 0:
                self.add(name, value, f"write 0 or a whole number of base units of {resource}: this would be rounded down to 0")
        except InvalidQuantity as error:
            self.problems.add(error.field, error.value, error.fix)
            return None
        return amount


def _word(value: object, words: type[Word]) -> Word | None:
    return next((word for word in words if word == value), None)


def _one_of(value: object, words: Iterable[str]) -> str:
    known = list(words)
    close = get_close_matches(value, known, n=1) if isinstance(value, str) else []
    return f"did you mean {close[0]}?" if close else f"write one of {', '.join(known)}"
