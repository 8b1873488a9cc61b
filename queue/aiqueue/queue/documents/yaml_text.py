"""YAML text to plain values, with bounds: what `yaml.safe_load_all` does, for text that nobody vouches for.

Beyond safe loading it refuses repeated keys, bounds size, depth and what aliases expand to, and gives JSON's types only
(a timestamp stays text). Keys are text as written, as Kubernetes reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from aiqueue.queue.documents.problems import Phrase, Problems, raise_if_any
from aiqueue.queue.errors import InvalidDocument

MAX_BYTES = 3 * 1024 * 1024
MAX_DEPTH = 64
MAX_VALUES = 500_000  # after aliases are expanded
_MAX_NUMBER_CHARACTERS = 64
_Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_TAG = "tag:yaml.org,2002:"
_AS_TEXT = frozenset({f"{_TAG}str", f"{_TAG}timestamp", f"{_TAG}value"})
_SCALARS = SafeConstructor()


def read_yaml(text: str, source: str) -> Iterator[tuple[int, Any]]:
    """Give (number, value) of each document of `text` that is not empty; the first is number 1.

    Raises:
        InvalidInput: it is not YAML, exceeds a bound, repeats a key, or uses a tag beyond JSON's types.
    """
    _check_bounds(text, source)
    loader = _Loader(text)
    try:
        number = 0
        while loader.check_node():
            number += 1
            node = loader.get_node()
            problems = Problems(f"{source}, document {number}")
            value = None if node is None else _construct(node, "", problems)
            raise_if_any(problems.errors)
            if value is not None:
                yield number, value
    except yaml.YAMLError as error:
        raise _not_yaml(error, source) from None
    finally:
        loader.dispose()


def _not_yaml(error: yaml.YAMLError, source: str) -> InvalidDocument:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "the text"
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "see the YAML specification"
    return InvalidDocument(place, Phrase("not YAML"), str(reason), where=source)


def _check_bounds(text: str, source: str) -> None:
    """Refuse, before anything is built, what would exhaust memory or the stack."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        fix = "save the file as UTF-8"
        raise InvalidDocument(f"character {error.start + 1}", Phrase("not Unicode"), fix, where=source) from None
    if size > MAX_BYTES:
        fix = f"split it: at most {MAX_BYTES} bytes are read at once"
        raise InvalidDocument("its size", Phrase(f"{size} bytes"), fix, where=source)
    try:
        _check_expansion(text, source)
    except yaml.YAMLError as error:
        raise _not_yaml(error, source) from None


def _check_expansion(text: str, source: str) -> None:
    """Count values as if every alias were written out, and levels."""
    expansion = _Expansion(source)
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, DocumentStartEvent):
            expansion.anchors.clear()
        elif isinstance(event, (SequenceEndEvent, MappingEndEvent)):
            expansion.leave()
        elif isinstance(event, NodeEvent):
            expansion.meet(event)


class _Expansion:
    """Running size of a text. `anchors` holds the size of what each names, 0 for a collection that is not complete yet."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.anchors: dict[str | None, int] = {}
        self.total = 0
        self._open: list[tuple[str | None, int]] = []

    def meet(self, event: NodeEvent) -> None:
        """Count a scalar, an alias or the start of a collection."""
        is_collection = isinstance(event, (SequenceStartEvent, MappingStartEvent))
        size = self.anchors.get(event.anchor, 1) if isinstance(event, AliasEvent) else 1
        if size == 0:
            raise self._refusal(event, f"*{event.anchor}, which contains itself", "write the value out")
        if is_collection:
            self._open.append((event.anchor, self.total))
        if event.anchor and not isinstance(event, AliasEvent):
            self.anchors[event.anchor] = 0 if is_collection else 1
        self.total += size
        if len(self._open) > MAX_DEPTH:
            raise self._refusal(event, f"nested deeper than {MAX_DEPTH}", "flatten it")
        if self.total > MAX_VALUES:
            raise self._refusal(event, f"past {MAX_VALUES} values, aliases expanded", "split the file")

    def leave(self) -> None:
        """A collection ends."""
        anchor, before = self._open.pop()
        if anchor:
            self.anchors[anchor] = self.total - before

    def _refusal(self, event: NodeEvent, value: str, fix: str) -> InvalidDocument:
        line = event.start_mark.line + 1 if event.start_mark else 0
        return InvalidDocument(f"line {line}", Phrase(value), fix, where=self.source)


def _construct(node: yaml.Node, path: str, problems: Problems) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, path, problems)
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
        return [_construct(item, f"{path}[{index}]", problems) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
        return _mapping(node, path, problems)
    problems.add(path or "the document", Phrase(f"tagged {node.tag}"), "write a plain mapping, list or value")
    return None


def _mapping(node: yaml.MappingNode, path: str, problems: Problems) -> dict[str, Any]:
    own: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            problems.add(f"a key in {path or 'the document'}", Phrase("not text"), "write a plain word as the key")
            continue
        key = key_node.value
        place = f"{path}.{key}" if path else key
        if key_node.tag == f"{_TAG}merge":
            given = _construct(value_node, place, problems)
            for source in given if isinstance(given, list) else [given]:
                if isinstance(source, dict):
                    merged = {**source, **merged}
                else:
                    problems.add(place, source, "merge a mapping or a list of mappings")
            continue
        if key in own:
            problems.add(place, Phrase(f"given twice (again in line {key_node.start_mark.line + 1})"), "keep one of them")
        own[key] = _construct(value_node, place, problems)
    return {**merged, **own}


def _scalar(node: yaml.ScalarNode, path: str, problems: Problems) -> Any:
    tag, value = node.tag, node.value
    if tag in _AS_TEXT:
        return value
    try:
        if tag == f"{_TAG}null":
            return None
        if tag == f"{_TAG}bool":
            return SafeConstructor.bool_values[value.lower()]
        if tag in (f"{_TAG}int", f"{_TAG}float") and len(value) <= _MAX_NUMBER_CHARACTERS:
            return _SCALARS.construct_yaml_int(node) if tag == f"{_TAG}int" else _SCALARS.construct_yaml_float(node)
    except (ValueError, KeyError, IndexError, OverflowError):
        pass  # a tag written by hand on a value that is none: refused below
    problems.add(path or "the document", value, f"it cannot be read as {tag.removeprefix(_TAG)}; put text in quotes")
    return None
