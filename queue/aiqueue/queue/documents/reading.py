"""A text of several documents to what it describes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from aiqueue.queue.documents.fields import Fields
from aiqueue.queue.documents.names import API_VERSION, KINDS, ObjectName, Record, name_of
from aiqueue.queue.documents.parsing import parse
from aiqueue.queue.documents.problems import MISSING, Phrase, Problems, raise_if_any
from aiqueue.queue.documents.yaml_text import read_yaml
from aiqueue.queue.errors import InvalidInput

_GROUP = "aiqueue.dev/"


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a text.

    Attributes:
        where: the text, the number and the object, for errors: `tenants.yaml, document 2 (Tenant research)`.
        record: what it describes; None for a document of another apiVersion, which is not ours to read.
        content: the whole document as plain values; never changed.
    """

    where: str
    api_version: str
    kind: str
    name: str
    namespace: str = ""
    record: Record | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    content: Mapping[str, Any] = field(default_factory=dict)


def read_documents(text: str, source: str, *, repeats: bool = False) -> list[Document]:
    """Read every document of a text.

    Args:
        text: YAML.
        source: names it in errors.
        repeats: whether an object may be given several times, as where each is for another time.

    Raises:
        InvalidInput: something is wrong with one of them; where several things are, an InvalidDocuments that holds them.
    """
    documents: list[Document] = []
    errors: list[InvalidInput] = []
    first_place: dict[ObjectName, str] = {}
    for place, value in _expanded(read_yaml(text, source), source):
        problems = Problems(place)
        document = _document(value, problems)
        if document is not None and document.record is not None:
            name = name_of(document.record)
            if name in first_place and not repeats:
                problems.add(str(name), Phrase("given twice"), f"keep one; the first is {first_place[name]}")
            first_place.setdefault(name, place)
        errors.extend(problems.errors)
        if document is not None:
            documents.append(document)
    raise_if_any(errors)
    return documents


def _expanded(values: Iterable[tuple[int, Any]], source: str) -> Iterator[tuple[str, Any]]:
    """Each document with its place; a `v1` List stands for its items, as kubectl has it."""
    for number, value in values:
        place = f"{source}, document {number}"
        if isinstance(value, dict) and value.get("apiVersion") == "v1" and value.get("kind") == "List":
            items = value.get("items")
            for index, item in enumerate(items if isinstance(items, list) else [], start=1):
                yield f"{place}, item {index}", item
        else:
            yield place, value


def _document(value: Any, problems: Problems) -> Document | None:
    """One document; None if it is too wrong to say what it describes."""
    if not isinstance(value, dict):
        problems.add("the document", value, f"write a mapping with apiVersion: {API_VERSION}, kind, metadata and spec")
        return None
    api_version, kind = value.get("apiVersion"), value.get("kind")
    metadata = _mapping(value.get("metadata"))
    if isinstance(kind, str) and kind:
        name = metadata.get("name", "")
        problems.where += f" ({kind} {name})" if isinstance(name, str) and 0 < len(name) <= 63 else f" ({kind[:63]})"
    for field_name, given, example in (("apiVersion", api_version, API_VERSION), ("kind", kind, "Tenant")):
        if not isinstance(given, str) or not given:
            problems.add(field_name, MISSING if given in (None, "") else given, f"write for example {example}")
    if problems.errors:
        return None
    if not str(api_version).startswith(_GROUP):
        return Document(
            where=problems.where,
            api_version=str(api_version),
            kind=str(kind),
            name=str(metadata.get("name", "")),
            namespace=str(metadata.get("namespace") or ""),
            annotations=_text_values(metadata.get("annotations")),
            content=value,
        )
    if api_version != API_VERSION:
        problems.add("apiVersion", api_version, f"write {API_VERSION}")
        return None
    if kind not in KINDS:
        close = get_close_matches(str(kind), KINDS, n=1)
        problems.add("kind", kind, f"did you mean {close[0]}?" if close else f"write one of {', '.join(KINDS)}")
        return None
    return _ours(str(kind), value, problems)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text_values(value: object) -> dict[str, str]:
    return {key: text for key, text in _mapping(value).items() if isinstance(text, str)}


def _ours(kind: str, value: dict[str, Any], problems: Problems) -> Document:
    fields = Fields(problems, "", value)
    for known in ("apiVersion", "kind", "status"):  # what `get -o yaml` adds as status says nothing to `apply`
        fields.take(known)
    metadata = fields.sub("metadata")
    name = metadata.name("name", f"the name of the {kind}")
    namespace = ""
    if kind == "Queue":
        namespace = metadata.name("namespace", "the namespace of the Jobs that may use the queue")
        if "." in namespace or len(namespace) > 63:
            metadata.add("namespace", namespace, "write the name of a namespace, which has no dots")
    elif metadata.take("namespace") is not None:
        metadata.add("namespace", value["metadata"]["namespace"], f"remove it: a {kind} belongs to no namespace")
    # Labels and annotations are for other tools (kustomize, the simulator); the ledger does not keep them.
    for unkept in ("labels", "annotations"):
        texts = metadata.sub(unkept)
        for key in texts.given():
            texts.text(key, lambda _: True, "")
    metadata.finish()
    record = parse(kind, name, namespace, fields.take("spec"), problems)
    fields.finish()
    return Document(
        where=problems.where,
        api_version=API_VERSION,
        kind=kind,
        name=name,
        namespace=namespace,
        record=record,
        annotations=_text_values(_mapping(value.get("metadata")).get("annotations")),
        content=value,
    )
