"""Texts of YAML documents to a scenario: aiqueue's objects, each at its time, and Jobs, each with its arrival and runtime.

Objects are read by `aiqueue.queue.documents` and Jobs as the controller reads them, so a file means here what it means there.
What is wrong with any document is found in one reading; whether the objects fit together is asked of each instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import msgspec

from aiqueue.admission.kube import names
from aiqueue.admission.kube.jobs import Durations, durations
from aiqueue.admission.simulate.scenario import Edit, Scenario, SimulatedJob
from aiqueue.admission.webhook import submitted
from aiqueue.queue.consistency import check, with_objects
from aiqueue.queue.documents import Document, InvalidDocuments, ObjectName, Record, name_of, raise_if_any, read_documents
from aiqueue.queue.documents.problems import MISSING, Phrase
from aiqueue.queue.errors import InvalidDocument, InvalidInput
from aiqueue.queue.oversights import oversights
from aiqueue.queue.records import Configuration
from aiqueue.queue.units import format_duration, parse_amount, parse_duration

PREFIX = "simulate.aiqueue.dev/"
AT = PREFIX + "at"
ARRIVAL = PREFIX + "arrival"
RUNTIME = PREFIX + "runtime"
CHECKPOINT = PREFIX + "checkpoint"
FAILS = PREFIX + "fails"
_OF_JOBS = (ARRIVAL, RUNTIME, CHECKPOINT, FAILS)
_OF_OBJECTS = (AT,)
_DEFAULT_NAMESPACE = "default"
_SECOND = 1_000_000  # microseconds


@dataclass(frozen=True, slots=True)
class Reading:
    """What files say: the scenario, and sentences on what in them was left out or has no effect."""

    scenario: Scenario
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Given:
    """One document that is not ours. `content` is never changed."""

    where: str
    api_version: str
    kind: str
    content: Mapping[str, Any]


def read(texts: Iterable[tuple[str, str]]) -> Reading:
    """Read a scenario.

    The order of documents means nothing, but for Jobs that arrive at the same time: those queue up as they are written.

    Args:
        texts: (name, YAML) of each file, in the order given.

    Raises:
        InvalidInput: something is wrong with a document, or the objects of one time do not fit together; where several things
            are wrong, an InvalidDocuments that holds them.
    """
    reader = _Reader()
    for source, text in texts:
        reader.read(source, text)
    return reader.reading()


class _Reader:
    """What was read so far."""

    def __init__(self) -> None:
        self._errors: list[InvalidInput] = []
        self._records: dict[int, dict[ObjectName, tuple[str, Record]]] = {}  # seconds -> what applies then, and its place
        self._jobs: list[SimulatedJob] = []
        self._places: dict[tuple[str, str], str] = {}  # of Jobs, by namespace and name
        self._unlabelled = 0
        self._passed_over: list[str] = []
        self._oversights: dict[str, str] = {}  # without its place: what is written again for another time is told once

    def read(self, source: str, text: str) -> None:
        """Read one text."""
        try:
            documents = read_documents(text, source, repeats=True)
        except InvalidDocuments as error:
            self._errors.extend(error.errors)
            return
        except InvalidInput as error:
            self._errors.append(error)
            return
        for document in documents:
            try:
                self._take(document)
            except InvalidInput as error:
                self._errors.append(error)

    def reading(self) -> Reading:
        """All of it.

        Raises:
            InvalidInput: as `read`.
        """
        raise_if_any(self._errors)
        self._check()
        edits = tuple(
            Edit(seconds * _SECOND, tuple(record for _, (_, record) in sorted(there.items(), key=_by_name)))
            for seconds, there in sorted(self._records.items())
        )
        jobs = tuple(sorted(self._jobs, key=lambda job: job.arrival_us))  # stable: of one time in the order of the input
        return Reading(Scenario(edits, jobs), tuple(self._warnings()))

    def _warnings(self) -> Iterator[str]:
        yield from self._oversights.values()
        yield from self._passed_over
        if self._unlabelled:
            count = "1 Job" if self._unlabelled == 1 else f"{self._unlabelled} Jobs"
            verb = "has" if self._unlabelled == 1 else "have"
            yield f"left out: {count} that {verb} no label {names.QUEUE_LABEL}, which aiqueue leaves alone"

    def _check(self) -> None:
        """Have the objects of each instant, with those of earlier ones, fit together."""
        known = Configuration(0)
        for seconds, there in sorted(self._records.items()):
            known = with_objects(known, (record for _, record in there.values()))
            places = {name: where for name, (where, _) in there.items()}
            errors = check(known, places)
            if seconds:
                time = format_duration(seconds)
                errors = [InvalidDocument(e.field, e.value, e.fix, where=f"at {time}: {e.where}") for e in errors]
            raise_if_any(errors)
            for each in oversights(known, places):
                self._oversights.setdefault(f"{each.field} {each.value} {each.why}", f"warning: {each}")

    def _take(self, document: Document) -> None:
        if document.record is not None:
            self._object(document, document.record)
            return
        for given in _expanded(document):
            if (given.api_version, given.kind) == ("batch/v1", "Job"):
                self._job(given)
            elif (given.api_version, given.kind) == ("v1", "Node"):
                _check_node(given)
            else:
                self._passed_over.append(f"passed over: {given.where} is a {given.kind} of {given.api_version}")

    def _object(self, document: Document, record: Record) -> None:
        annotations = _annotations(document.content, document.where, _OF_OBJECTS)
        seconds = _seconds(annotations, AT, document.where) or 0
        name = name_of(record)
        there = self._records.setdefault(seconds, {})
        if name in there:
            fix = f"write it once for each time: {there[name][0]} is for {format_duration(seconds)} too"
            raise InvalidDocument("metadata.name", name.path, fix, where=document.where)
        there[name] = (document.where, record)

    def _job(self, given: _Given) -> None:
        where = given.where
        annotations = _annotations(given.content, where, _OF_JOBS)
        try:
            job = submitted.read(msgspec.Raw(msgspec.json.encode(given.content)))
        except msgspec.MsgspecError as error:
            raise _not_a_job(error, where) from None
        observation = job.observation
        if observation.queue_name is None:
            self._unlabelled += 1
            return
        if not observation.name:
            raise InvalidDocument("metadata.name", MISSING, "write the name of the Job", where=where)
        namespace = observation.namespace or _DEFAULT_NAMESPACE
        first = self._places.setdefault((namespace, observation.name), where)
        if first is not where:
            fix = f"give each Job a name of its own: {first} has this one"
            raise InvalidDocument("metadata.name", f"{namespace}/{observation.name}", fix, where=where)
        runtime = _seconds(annotations, RUNTIME, where)
        if runtime is None:
            fix = "write how long the Job really takes, such as 5m"
            raise InvalidDocument(_annotation(RUNTIME), MISSING, fix, where=where)
        checkpoint = _seconds(annotations, CHECKPOINT, where)
        if checkpoint == 0:
            fix = "write how often the Job saves its work, such as 60s, or remove it"
            raise InvalidDocument(_annotation(CHECKPOINT), annotations[CHECKPOINT], fix, where=where)
        own = _own_durations(job)
        told = own.checkpoint_seconds if own.checkpoint_seconds is not None else checkpoint
        if checkpoint is None:
            checkpoint = told
        self._jobs.append(
            SimulatedJob(
                namespace=namespace,
                name=observation.name,
                queue_name=observation.queue_name,
                class_name=observation.class_name,
                pod_sets=observation.pod_sets,
                shape=observation.shape,
                arrival_us=(_seconds(annotations, ARRIVAL, where) or 0) * _SECOND,
                runtime_us=runtime * _SECOND,
                checkpoint_us=checkpoint * _SECOND if checkpoint is not None else None,
                held=observation.held_by_owner,
                invalid=observation.invalid,
                fails=_flag(annotations, FAILS, where),
                told_checkpoint_seconds=told,
                max_runtime_seconds=own.max_runtime_seconds,
            )
        )


def _by_name(item: tuple[ObjectName, object]) -> ObjectName:
    return item[0]


def _expanded(document: Document) -> Iterator[_Given]:
    """The document, or the items of a JobList or NodeList, which need not repeat what they are."""
    content = document.content
    if (document.api_version, document.kind) not in (("batch/v1", "JobList"), ("v1", "NodeList")):
        yield _Given(document.where, document.api_version, document.kind, content)
        return
    items = content.get("items")
    for number, item in enumerate(items if isinstance(items, list) else (), start=1):
        where = f"{document.where}, item {number}"
        if not isinstance(item, dict):
            raise InvalidDocument(f"items[{number - 1}]", item, "write a mapping", where=where)
        yield _Given(where, document.api_version, document.kind.removesuffix("List"), item)


def _check_node(given: _Given) -> None:
    """Nodes limit nothing yet; one that no cluster could have is refused all the same."""
    where, metadata, status = given.where, given.content.get("metadata"), given.content.get("status")
    _seconds(_annotations(given.content, where, _OF_OBJECTS), AT, where)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise InvalidDocument("metadata.name", MISSING, "write the name of the Node", where=where)
    for field in ("capacity", "allocatable"):
        amounts = status.get(field) if isinstance(status, dict) else None
        if amounts is not None and not isinstance(amounts, dict):
            raise InvalidDocument(f"status.{field}", amounts, "write a mapping of resources to quantities", where=where)
        for resource, quantity in (amounts or {}).items():
            try:
                parse_amount(resource, quantity, round_up=False, field=f"status.{field}.{resource}")
            except InvalidInput as error:
                raise InvalidDocument(error.field, error.value, error.fix, where=where) from None


def _annotations(content: Mapping[str, Any], where: str, known: tuple[str, ...]) -> Mapping[str, str]:
    """The annotations of ours, all of them known here and text."""
    metadata = content.get("metadata")
    given = metadata.get("annotations") if isinstance(metadata, dict) else None
    found: dict[str, str] = {}
    for name, value in (given if isinstance(given, dict) else {}).items():
        if not name.startswith(PREFIX):
            continue
        if name not in known:
            close = get_close_matches(name.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known], n=1)
            fix = f"did you mean {PREFIX}{close[0]}?" if close else f"remove it; known here: {', '.join(known)}"
            raise InvalidDocument(_annotation(name), value, fix, where=where)
        if not isinstance(value, str):
            raise InvalidDocument(_annotation(name), value, "put it in quotes, since it must be text", where=where)
        found[name] = value
    return found


def _seconds(annotations: Mapping[str, str], name: str, where: str) -> int | None:
    text = annotations.get(name)
    if text is None:
        return None
    try:
        return parse_duration(text, field=_annotation(name))
    except InvalidInput as error:
        raise InvalidDocument(error.field, error.value, error.fix, where=where) from None


def _flag(annotations: Mapping[str, str], name: str, where: str) -> bool:
    text = annotations.get(name, "false")
    if text not in ("true", "false"):
        raise InvalidDocument(_annotation(name), text, 'write "true" or "false"', where=where)
    return text == "true"


def _own_durations(job: submitted.SubmittedJob) -> Durations:
    """What the user's own annotations say; where one cannot be read, the Job is invalid and never runs."""
    try:
        return durations(job.job)
    except InvalidInput:
        return Durations()


def _not_a_job(error: Exception, where: str) -> InvalidDocument:
    """What msgspec says, `Expected `int`, got `str` - at `$.spec.parallelism``, as a sentence."""
    said, _, path = str(error).replace("`", "").partition(" - at $")
    return InvalidDocument(path.strip(".") or "the Job", Phrase("not what a Job of batch/v1 has there"), said, where=where)


def _annotation(name: str) -> str:
    return f"metadata.annotations[{name}]"
