"""A sorted collection of tuples, because pending work is entered, left and ranked in any order at any size.

A list of short sorted lists: every operation costs a bisection and a move inside one short list, however many items there are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=tuple[Any, ...])

_LOAD = 512  # items in a short list after it was split


class Ordered(Generic[T]):
    """Distinct tuples in ascending order."""

    __slots__ = ("_chunks", "_maxima", "_size")

    def __init__(self) -> None:
        self._chunks: list[list[T]] = []
        self._maxima: list[T] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        for chunk in self._chunks:
            yield from chunk

    def peek(self) -> T | None:
        """The least item, None where there is none."""
        return self._chunks[0][0] if self._size else None

    @property
    def first(self) -> T:
        """The least item. The collection must not be empty."""
        return self._chunks[0][0]

    def add(self, item: T) -> None:
        """Enter an item that is not there yet."""
        self._size += 1
        maxima = self._maxima
        at = bisect_left(maxima, item)
        if at == len(maxima):
            if not maxima:
                self._chunks.append([item])
                maxima.append(item)
                return
            at -= 1
            maxima[at] = item
        chunk = self._chunks[at]
        insort(chunk, item)
        if len(chunk) > 2 * _LOAD:
            self._chunks.insert(at, chunk[:_LOAD])
            maxima.insert(at, chunk[_LOAD - 1])
            del chunk[:_LOAD]

    def remove(self, item: T) -> None:
        """Take an item out.

        Raises:
            KeyError: it is not there.
        """
        at = bisect_left(self._maxima, item)
        chunk = self._chunks[at] if at < len(self._chunks) else []
        place = bisect_left(chunk, item)
        if place == len(chunk) or chunk[place] != item:
            raise KeyError(item)
        self._size -= 1
        del chunk[place]
        if not chunk:
            del self._chunks[at]
            del self._maxima[at]
        elif place == len(chunk):
            self._maxima[at] = chunk[-1]

    def rank(self, item: T) -> int:
        """How many items are less than `item`, which need not be there itself."""
        at = bisect_left(self._maxima, item)
        if at == len(self._maxima):
            return self._size
        return sum(map(len, self._chunks[:at])) + bisect_left(self._chunks[at], item)
