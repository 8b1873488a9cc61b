"""Starts Jobs by the thousand: the first try of every unsuspend, over `wire` instead of a thread for each request in flight.

The lane and the hands do the same: one PATCH that carries the Job's uid and the resourceVersion it was decided on, sent only while the term
is trusted. A Job that is answered with 200 was started. Whatever else comes of it (a conflict, a refusal, no answer) says too little, so the
hands take the action over: they look at the Job, find that it was started after all, or go on as they always do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

import structlog

from aiqueue.admission.controller import faults
from aiqueue.admission.controller.actor import Actor
from aiqueue.admission.controller.watchdog import Step
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.wire import Request, Wire
from aiqueue.queue.errors import AiqueueError
from aiqueue.queue.store.actions import Action

_log = structlog.get_logger()
_LEFT_AT_ONCE = 100
_LEFT_SECONDS = 1.0  # later, where the server sheds load or fails

#: Path and body of the PATCH that starts the Job of an action.
Opening = Callable[[Action], tuple[str, bytes]]


class Lane:
    """The lane of one actor; it has none where the cluster is behind a proxy."""

    def __init__(self, actor: Actor, client: KubeClient, opening: Opening, connections: int) -> None:
        self._actor = actor
        self._opening = opening
        self._wire: Wire | None = None
        if Wire.possible(client):
            self._wire = Wire(client, connections, pull=self._next, waiting=lambda: actor.starts, failed=self._leave_some)

    def start(self) -> None:
        """Begin to start Jobs."""
        if self._wire is not None:
            self._actor.open_lane(self._wire.wake)
            self._wire.start()

    def stop(self) -> None:
        """Begin nothing new and wait for what is being done."""
        if self._wire is not None:
            self._wire.stop()

    def _next(self) -> Request | None:
        while (action := self._actor.begin_start()) is not None:
            try:
                path, body = self._opening(action)
                with Step("starts a Job"):
                    faults.reach_patch("before", action.kind)
            except Exception as error:  # noqa: BLE001 -- a fault of ours must not lose the action or end the thread of the wire
                self._leave(action, error)
            else:
                return Request(path, body, partial(self._answered, action))
        return None

    def _leave(self, action: Action, error: Exception) -> None:
        _log.warning("a start is left to the hands", job=f"{action.namespace}/{action.name}", why=repr(error))
        self._actor.left(action)

    def _leave_some(self) -> None:
        """Whatever keeps the lane from connecting, the hands may be able to."""
        for _ in range(_LEFT_AT_ONCE):
            action = self._actor.begin_start()
            if action is None:
                return
            self._actor.left(action)

    def _answered(self, action: Action, status: int) -> None:
        if status != HTTPStatus.OK:
            overwhelmed = status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
            self._actor.left(action, random.uniform(0.5, 1.0) * _LEFT_SECONDS if overwhelmed else 0.0)
            return
        try:
            with Step("has started a Job"):
                faults.reach_patch("after", action.kind)
        except AiqueueError as error:
            self._leave(action, error)
        else:
            self._actor.started(action)
