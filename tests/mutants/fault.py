"""A fault that somebody might put into the engine, and how it is put in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE = "admission/aiqueue/admission/engine"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        name: unique; the part of the engine first.
        file: relative to the repository.
        fragment: text of one line that stands in the file exactly once.
        instead: what stands there with the fault.
        breaks: the promise, as a sentence.
    """

    name: str
    file: str
    fragment: str
    instead: str
    breaks: str


class FragmentNotFound(Exception):
    """A fragment does not stand in its file exactly once: the engine was changed, so change the table too."""


def with_fault(fault: Fault, text: str) -> str:
    """The text of the fault's file with the fault in it.

    Raises:
        FragmentNotFound: the fragment is not there exactly once.
    """
    count = text.count(fault.fragment)
    if count != 1:
        raise FragmentNotFound(f"{fault.name}: {fault.fragment!r} stands {count} times in {fault.file}: it must be there once")
    return text.replace(fault.fragment, fault.instead)


def of(module: str, *faults: tuple[str, str, str, str]) -> tuple[Fault, ...]:
    """Faults of one module of the engine."""
    return tuple(Fault(f"{module}-{name}", f"{ENGINE}/{module}.py", *rest) for name, *rest in faults)
