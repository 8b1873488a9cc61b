"""Documents from files, folders and stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from aiqueue.cli.exits import say
from aiqueue.queue.documents import Document, InvalidDocuments, ObjectName, name_of, raise_if_any, read_documents
from aiqueue.queue.documents.yaml_text import MAX_BYTES
from aiqueue.queue.errors import InvalidDocument, InvalidInput

_SUFFIXES = (".yaml", ".yml")


def read_objects(paths: Iterable[str]) -> list[Document]:
    """Documents of ours in `paths`, each a file, a folder (its *.yaml and *.yml, by name) or `-` for stdin.

    Documents of another apiVersion are left out, and said on stderr.

    Raises:
        InvalidInput: a path cannot be read, something is wrong in one of them (an InvalidDocuments has all that is), an
            object is given twice, or none of them holds an object of ours.
    """
    documents: list[Document] = []
    errors: list[InvalidInput] = []
    for path in paths:
        try:
            texts = _texts(path, "-f")
        except InvalidInput as error:
            errors.append(error)
            continue
        for source, data in texts:
            try:
                documents.extend(read_documents(_decoded(data, source), source))
            except InvalidDocuments as error:
                errors.extend(error.errors)
            except InvalidInput as error:
                errors.append(error)
    seen: dict[ObjectName, str] = {}
    for document in documents:
        if document.record is None:
            say(f"passed over: {document.where} is of {document.api_version}, which is not aiqueue's")
            continue
        name = name_of(document.record)
        if name in seen and seen[name] != document.where:
            errors.append(
                InvalidDocument("metadata.name", name.path, f"write it once: {seen[name]} is the same", where=document.where)
            )
        seen.setdefault(name, document.where)
    raise_if_any(errors)
    ours = [document for document in documents if document.record is not None]
    if not ours:
        raise InvalidInput("-f", ", ".join(paths), "name files that hold aiqueue.dev/v1 documents")
    return ours


def read_texts(paths: Iterable[str], argument: str) -> list[tuple[str, str]]:
    """(name, text) of each file that `paths` stand for, as `read_objects` has them; `argument` names them in errors.

    Raises:
        InvalidInput: a path cannot be read, or is no text; an InvalidDocuments if several are wrong.
    """
    texts: list[tuple[str, str]] = []
    errors: list[InvalidInput] = []
    for path in paths:
        try:
            texts.extend((source, _decoded(data, source)) for source, data in _texts(path, argument))
        except InvalidInput as error:
            errors.append(error)
    raise_if_any(errors)
    return texts


def complete(incomplete: str) -> list[str]:
    """Folders, and files that may hold documents, that begin so: for the shell."""
    before, slash, begins = incomplete.rpartition("/")
    try:
        found = sorted(Path(before + slash or ".").iterdir())
    except OSError:
        return []
    there = [each for each in found if each.name.startswith(begins) and (begins or not each.name.startswith("."))]
    return [
        f"{before}{slash}{each.name}" + ("/" if each.is_dir() else "")
        for each in there
        if each.is_dir() or each.suffix in _SUFFIXES
    ]


def _texts(path: str, argument: str) -> list[tuple[str, bytes]]:
    """(name, content) of each file that `path` stands for."""
    if path == "-":
        return [("stdin", sys.stdin.buffer.read(MAX_BYTES + 1))]
    place = Path(path)
    try:
        if not place.is_dir():
            return [(path, _bytes(place))]
        files = sorted(each for each in place.iterdir() if each.suffix in _SUFFIXES and each.is_file())
        contents = [(str(each), _bytes(each)) for each in files]
    except OSError as error:
        raise InvalidInput(
            argument, path, f"it cannot be read ({error.strerror or error}): name a file, a folder or -"
        ) from None
    if not contents:
        raise InvalidInput(argument, path, "name a folder that holds *.yaml or *.yml files")
    return contents


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)  # one too many is refused with the others that are too long


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"byte {error.start + 1}", data[error.start], "save the file as UTF-8", where=source) from None
