"""What the harness raises.

AiqueueError
└── HarnessError          a program, a folder or a server is not as the harness needs it
    ├── ToolMissing       nothing on this machine can provide a program: says how to get it
    ├── ProgramFailed     a program ended or did not get ready: carries the tail of its log
    └── NotMarked         a server is not one that was prepared for tests: it is left alone

Each text is a sentence for the person who runs the harness.
"""

from __future__ import annotations

from aiqueue.queue.errors import AiqueueError


class HarnessError(AiqueueError):
    """A program, a folder or a server is not as the harness needs it."""


class ToolMissing(HarnessError):
    """Nothing on this machine provides a program that is needed."""


class ProgramFailed(HarnessError):
    """A program ended, or did not become ready before its deadline."""


class NotMarked(HarnessError):
    """A server does not carry the mark of one that tests and demos may use."""
