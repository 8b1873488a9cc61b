"""An answer of an API server, or of whatever stands before it, from its headers on.

What is no Status of the Kubernetes API was said by somebody else: load shedding, a load balancer without a backend, a proxy. Of an object such
an answer says nothing, whatever its number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec
import urllib3

from aiqueue.admission.kube import errors, objects
from aiqueue.admission.kube.deadlines import Deadline
from aiqueue.admission.kube.respite import Respite
from aiqueue.admission.kube.watches import error_of

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

T = TypeVar("T", bound=objects.Object)
_READ_BYTES = 1 << 16
_WEBHOOK = "failed calling webhook"  # of somebody's Jobs: says nothing of the server
_status = msgspec.json.Decoder(objects.Status)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose headers have come, to be read before its deadline; `respite` hears whether it is as it should be."""

    response: BaseHTTPResponse
    respite: Respite
    doing: str
    deadline: Deadline

    @property
    def refused(self) -> bool:
        """Whether it is anything but what was asked for."""
        return self.response.status >= 300

    def decoded(self, decoder: msgspec.json.Decoder[T]) -> T:
        """The object that was asked for.

        Raises:
            KubeError: it is not there.
        """
        if self.refused:
            raise self.failure()
        body = self._body()
        try:
            found = decoder.decode(body)
        except msgspec.DecodeError as error:
            unreadable = errors.Unreadable(f"not the object that was asked for: {error}", doing=self.doing)
            self.respite.unwell(str(unreadable))
            raise unreadable from error
        self.respite.well()
        return found

    def failure(self) -> errors.KubeError:
        """Why there is nothing else."""
        body = self._body()
        code, retry_after = self.response.status, _seconds(self.response.headers.get("Retry-After"))
        status = _status_in(body)
        if status is None:
            text = body[:200].decode("utf-8", "replace").strip()
            error = errors.of_stranger(code, message=text or "no message", doing=self.doing)
        else:
            error = error_of(msgspec.structs.replace(status, code=code), doing=self.doing)
        if retry_after is not None:
            error.retry_after_seconds = retry_after
        of_server = isinstance(error, (errors.Unavailable, errors.TooManyRequests))
        if of_server and _WEBHOOK not in error.message:
            self.respite.unwell(str(error), error.retry_after_seconds)
        else:
            self.respite.well()
        return error

    def _body(self) -> bytes:
        """Read the whole body, which gives the connection back."""
        parts: list[bytes] = []
        try:
            while part := self.response.read1(_READ_BYTES):
                parts.append(part)
                if self.deadline.over:
                    raise TimeoutError
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self.response.close()
            raise no_answer(self.respite, f"no whole answer: {self.deadline.why(error)}", self.doing) from error
        return b"".join(parts)


def no_answer(respite: Respite, why: str, doing: str) -> errors.Unavailable:
    """The error for an answer that did not come, of which `respite` hears."""
    error = errors.Unavailable(why, doing=doing)
    respite.unwell(str(error))
    return error


def require_about(error: errors.NotFound, *names_of_it: str) -> None:
    """Take a 404 for word that an object is not there only where it names it.

    Raises:
        Unavailable: it does not: a load balancer says so of every path, and a server of APIs that it does not serve yet.
    """
    if error.about not in names_of_it:
        raise errors.Unavailable(f"a 404 that is not about it: {error}", status=error.status, doing="request") from error


def _status_in(body: bytes) -> objects.Status | None:
    try:
        status = _status.decode(body)
    except msgspec.DecodeError:
        return None
    return status if status.kind == "Status" else None


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and re.fullmatch(r"[0-9]{1,6}", header, re.ASCII) else None
