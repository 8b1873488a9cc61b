"""Refusing any server that was not prepared for tests, demos and benchmarks.

The two variables below are the only ones through which a server may be named; KUBECONFIG and AIQUEUE_DATABASE_URL name
what people work with, and are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from aiqueue.cli.harness import databases, marks
from aiqueue.cli.harness.errors import NotMarked

KUBECONFIG_VARIABLE = "AIQUEUE_TEST_KUBECONFIG"
DATABASE_VARIABLE = "AIQUEUE_TEST_DATABASE_URL"


def require_marked_database(url: str) -> None:
    """Return if the database carries the mark.

    Args:
        url: `postgresql+psycopg://...`.

    Raises:
        NotMarked: it does not: nothing may be changed there.
        HarnessError: it cannot be reached.
    """
    comment = databases.comment_of(url)
    if comment is None or not comment.startswith(marks.DATABASE_COMMENT.partition(":")[0]):
        where = databases.without_password(url)
        raise NotMarked(
            f"{where} is not marked for tests, so it is left alone: if all in it may be destroyed, run "
            f"COMMENT ON DATABASE ... IS '{marks.DATABASE_COMMENT}'"
        )


def require_marked_cluster(kubeconfig: Path) -> None:
    """Return if the cluster that a kubeconfig names carries the mark.

    Raises:
        NotMarked: it does not, or does not let us see: nothing may be changed there.
    """
    # Any kubeconfig may be given, so the official client reads it; imported here since that takes a while.
    from kubernetes import client, config
    from urllib3.exceptions import HTTPError

    open_client: Callable[..., AbstractContextManager[client.ApiClient]] = config.new_client_from_config
    with open_client(str(kubeconfig)) as session:
        try:
            client.CoreV1Api(session).read_namespaced_config_map(marks.CONFIG_MAP, marks.NAMESPACE, _request_timeout=10)
        except (client.ApiException, HTTPError) as error:
            reason = f"{error.status} {error.reason}" if isinstance(error, client.ApiException) else str(error)
            raise NotMarked(
                f"the cluster of {kubeconfig} is not marked for tests ({reason}), so it is left alone: if all in it may be "
                f"destroyed, run kubectl -n {marks.NAMESPACE} create configmap {marks.CONFIG_MAP}"
            ) from error
