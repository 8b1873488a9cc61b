"""Every error that aiqueue raises on purpose.

    AiqueueError
    ├── InvalidInput            a value that somebody wrote is wrong: says where, what and the fix
    │   ├── InvalidQuantity     ... a Kubernetes quantity or a duration
    │   └── InvalidDocument     ... a field of an `aiqueue.dev/v1` document
    ├── NotFound                a named object does not exist
    ├── StillReferenced         a delete is refused while live work or configuration refers to the row
    ├── RefusedToStart          starting would endanger running work: says why and what to do
    └── LedgerError             the ledger cannot take the write
        ├── TermLost            another leader holds the ledger: abandon everything of this term
        ├── ConfigurationMoved  the configuration changed after the Plan was decided: decide again
        ├── LedgerConflict      rows are not as the engine believes: rebuild the engine
        └── SchemaMismatch      the schema is not the one this program was built for

The text of an error is a sentence for the person who can act on it.
"""

from __future__ import annotations


class AiqueueError(Exception):
    """Root of the tree: catching it catches what aiqueue raises on purpose and nothing else."""


class InvalidInput(AiqueueError):
    """A value that somebody wrote is wrong.

    Attributes:
        field: where the value stands, for example `spec.quotas[0].nominal`.
        value: the value as written.
        fix: what to write instead, as a phrase.
    """

    def __init__(self, field: str, value: object, fix: str, *, where: str = "") -> None:
        self.field = field
        self.value = value
        self.fix = fix
        self.where = where
        prefix = f"{where}: " if where else ""
        super().__init__(f"{prefix}{field} is {value!r}: {fix}")


class InvalidQuantity(InvalidInput):
    """A quantity or a duration does not follow its grammar."""


class InvalidDocument(InvalidInput):
    """A field of an `aiqueue.dev/v1` document is missing, unknown, ill-typed or contradicts another."""


class NotFound(AiqueueError):
    """A named object does not exist."""


class StillReferenced(AiqueueError):
    """A delete is refused because live work or other configuration refers to the object."""


class RefusedToStart(AiqueueError):
    """Starting would endanger running work."""


class LedgerError(AiqueueError):
    """The ledger cannot take the write."""


class TermLost(LedgerError):
    """The term of the caller is over: another leader holds the ledger."""


class ConfigurationMoved(LedgerError):
    """The configuration revision is not the one the Plan was decided on."""


class LedgerConflict(LedgerError):
    """Rows of the ledger are not as the caller believes."""


class SchemaMismatch(LedgerError):
    """The schema of the ledger is older or newer than this program."""
