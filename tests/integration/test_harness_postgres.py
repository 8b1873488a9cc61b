"""The Postgres half of the harness, on real servers."""

from urllib.parse import urlsplit

import psycopg
import pytest

from aiqueue.cli.harness import databases, guard
from aiqueue.cli.harness.errors import NotMarked

pytestmark = pytest.mark.integration


def test_a_fresh_database_is_empty_and_marked(empty_database_url: str) -> None:
    guard.require_marked_database(empty_database_url)
    with databases.connection(empty_database_url) as session:
        assert session.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_an_unmarked_database_is_refused(empty_database_url: str) -> None:
    with pytest.raises(NotMarked, match="not marked for tests"):
        guard.require_marked_database(databases.with_database(empty_database_url, "postgres"))


def test_a_wrong_password_is_refused(empty_database_url: str) -> None:
    parts = urlsplit(databases.plain_url(empty_database_url))
    wrong = parts._replace(netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}").geturl()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
