"""Documents: what an administrator writes, YAML in Kubernetes form, to records and back.

Purpose: `read_documents` turns a text into `Document`s whose `record` is a Flavor, Tenant, Queue or Class of
`aiqueue.queue.records`; `to_document` is its inverse and the canonical form that `get -o yaml` and the audit show.

    text --yaml_text--> plain values --reading--> kind, metadata --parsing/fields--> record --form--> plain values

Invariants:
- `parse(to_document(record)) == record` for every record that parsing can give;
- what one object alone can get wrong is found here; what depends on others (references, cycles, the lending limit of a
  tenant with children) is found by `aiqueue.queue.consistency`, when all of them are known;
- one reading finds everything that is wrong, up to a bound: nothing is applied half.

Failure modes: any text gives documents or `InvalidInput`, whatever it holds. Size, depth and what aliases expand to are
bounded before anything is built; repeated keys and unknown fields are errors, since both are typing errors in practice.
Labels and annotations of our objects are read but not kept in the ledger.
"""

from __future__ import annotations

from aiqueue.queue.documents.form import to_document
from aiqueue.queue.documents.names import API_VERSION, KINDS, ObjectName, Record, name_of
from aiqueue.queue.documents.problems import InvalidDocuments, raise_if_any
from aiqueue.queue.documents.reading import Document, read_documents

__all__ = [
    "API_VERSION",
    "KINDS",
    "Document",
    "InvalidDocuments",
    "ObjectName",
    "Record",
    "name_of",
    "raise_if_any",
    "read_documents",
    "to_document",
]
