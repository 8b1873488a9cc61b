"""What can go wrong between aiqueue and a Kubernetes API server.

KubeError(AiqueueError)
├── NotFound         404: the object does not exist (also an `aiqueue.queue.errors.NotFound`)
├── Conflict         409: the object is not the one, or not at the resourceVersion, that was named: look again
├── Gone             410: the resourceVersion or continue token is too old: list again
├── Invalid          400, 422: the request itself is wrong: trying again does not help
├── Unauthorized     401: the credentials are not accepted
├── Forbidden        403: the account lacks a right, or a policy refused
├── TooManyRequests  429: wait `retry_after_seconds`
├── Unavailable      no answer in time, no connection, or a 5xx: try again with back-off
└── Unreadable       an answer that is not what the Kubernetes API promises
UnusableCredentials(AiqueueError)  the kubeconfig or the pod's service account cannot be used
FlavorConflict(AiqueueError)       flavors of one pod set want different values of one node label
"""

from __future__ import annotations

from collections.abc import Mapping

from aiqueue.queue import errors


class KubeError(errors.AiqueueError):
    """A request to the API server did not succeed.

    Attributes:
        status: HTTP status, None where there was no answer.
        reason: the machine-readable reason of the Status object, such as `AlreadyExists`; "" where there is none.
        message: what the API server said, or what happened on the way.
        retry_after_seconds: how long the server asked to wait, None where it did not.
        about: the name of the object that the API server says it is about, "" where it names none.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        reason: str = "",
        doing: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        self.about = ""
        code = " ".join(part for part in (str(status) if status is not None else "", reason) if part)
        super().__init__(f"{doing or 'request'} failed: {message}{f' ({code})' if code else ''}")


class NotFound(KubeError, errors.NotFound):
    """The object does not exist; or, where `about` is empty, nothing is known at this address, which says nothing of an object."""


class Conflict(KubeError):
    """The object is not the one, or not at the resourceVersion, that the request named."""


class Gone(KubeError):
    """The resourceVersion or the continue token is older than what the server still knows."""


class Invalid(KubeError):
    """The request is malformed or breaks the object's validation; the same request can never succeed."""


class Unauthorized(KubeError):
    """The server does not accept the credentials."""


class Forbidden(KubeError):
    """The account lacks the right, or an admission policy refused."""


class TooManyRequests(KubeError):
    """The server sheds load."""


class Unavailable(KubeError):
    """There was no connection, no answer in time, or the server failed."""


class Unreadable(KubeError):
    """The answer is not what the Kubernetes API promises."""


class UnusableCredentials(errors.AiqueueError):
    """The kubeconfig file or the pod's service account cannot be used."""


class FlavorConflict(errors.AiqueueError):
    """Flavors given to one pod set want different values of one node label."""


_BY_STATUS: Mapping[int, type[KubeError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


#: Who answers these in words of his own is not the API server, and knows nothing of the object.
_WORDS_OF_ITS_OWN = (400, 409, 410, 422)


def of_stranger(status: int, *, message: str, doing: str = "", retry_after_seconds: float | None = None) -> KubeError:
    """The error for an answer that is no Status: of load shedding, a load balancer, a proxy."""
    kind = Unavailable if status in _WORDS_OF_ITS_OWN else _BY_STATUS.get(status, Unavailable if status >= 500 else KubeError)
    return kind(message, status=status, doing=doing, retry_after_seconds=retry_after_seconds)


def of_status(
    status: int, *, message: str, reason: str = "", doing: str = "", retry_after_seconds: float | None = None
) -> KubeError:
    """The error for an HTTP status of 400 or more: a 5xx is Unavailable, an unlisted 4xx a plain KubeError."""
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 else KubeError)
    return kind(message, status=status, reason=reason, doing=doing, retry_after_seconds=retry_after_seconds)
