"""The schema: one history that goes up and down, no drift from the mapped tables, and the least rights for each role."""

import secrets
from collections.abc import Iterator

import pytest
from alembic.config import Config
from psycopg.errors import InsufficientPrivilege
from pytest_alembic import MigrationContext, tests
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError

from aiqueue.cli.harness import databases
from aiqueue.migrations import check, current_revision, head_revision, upgrade
from aiqueue.migrations.schema import configuration as alembic_configuration
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.documents import Record
from aiqueue.queue.errors import LedgerError, SchemaMismatch
from aiqueue.queue.records import Class, Flavor, Queue, Quota, Tenant
from aiqueue.queue.store import configuration, usage, views
from aiqueue.queue.tables import Base

pytestmark = pytest.mark.integration

ROLES = ("aiqueue_admin", "aiqueue_controller", "aiqueue_reader", "aiqueue_webhook")


@pytest.fixture
def alembic_config() -> Config:
    """What pytest-alembic runs: the program's own configuration."""
    return alembic_configuration()


@pytest.fixture
def alembic_engine(empty_database_url: str) -> Iterator[Connection]:
    """An empty database for pytest-alembic, as the connection that the program's environment runs on."""
    engine = create_engine(empty_database_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_there_is_one_head(alembic_runner: MigrationContext) -> None:
    tests.test_single_head_revision(alembic_runner)


def test_every_version_goes_up(alembic_runner: MigrationContext) -> None:
    tests.test_upgrade(alembic_runner)


def test_every_version_goes_down_and_up_again(alembic_runner: MigrationContext) -> None:
    tests.test_up_down_consistency(alembic_runner)


def test_the_schema_is_that_of_the_mapped_tables(alembic_runner: MigrationContext) -> None:
    tests.test_model_definitions_match_ddl(alembic_runner)


def test_upgrade_and_check(empty_database_url: str) -> None:
    database = open_database(empty_database_url, application_name="aiqueue-test")
    with transaction(database) as connection:
        assert current_revision(connection) is None
        with pytest.raises(SchemaMismatch, match="holds no ledger yet: run `aiqueue db upgrade`"):
            check(connection)
    with transaction(database) as connection:
        upgrade(connection)
    with transaction(database) as connection:
        assert check(connection) == current_revision(connection) == head_revision()
        upgrade(connection)  # again, which does nothing
        connection.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))
        with pytest.raises(SchemaMismatch, match="does not know: install a newer aiqueue"):
            check(connection)
    database.dispose()


def test_a_failed_upgrade_leaves_nothing(empty_database_url: str) -> None:
    """A table that is in the way makes version 0001 fail in the middle."""
    database = open_database(empty_database_url, application_name="aiqueue-test")
    with transaction(database) as connection:
        connection.execute(text("CREATE TABLE audit (id integer)"))
    with pytest.raises(ProgrammingError), transaction(database) as connection:
        upgrade(connection)
    with transaction(database) as connection:
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
    assert tables == ["audit"]
    database.dispose()


def test_two_upgrades_at_once_wait_for_one_another(empty_database_url: str) -> None:
    first = open_database(empty_database_url, application_name="aiqueue-test")
    second = open_database(empty_database_url, application_name="aiqueue-test", statement_timeout_seconds=1)
    with transaction(first) as connection:
        upgrade(connection)
        with pytest.raises(LedgerError), transaction(second) as waiting:
            upgrade(waiting)  # the advisory lock is not to be had while the first runs
    with transaction(second) as connection:
        upgrade(connection)
        assert check(connection) == head_revision()
    first.dispose()
    second.dispose()


@pytest.fixture
def logins(ledger: Engine, ledger_url: str) -> Iterator[dict[str, Engine]]:
    """A login for each role, which is a member of that role and of nothing else."""
    with transaction(ledger) as connection:
        objects: list[Record] = [Flavor("f"), Class("c"), Tenant("t", quotas=(Quota("f", "cpu", 1),)), Queue("n", "q", "t")]
        configuration.apply(connection, objects, claimed_by=None)
        connection.execute(text("INSERT INTO cluster (name, kube_system_uid) VALUES ('c', 'u')"))
        connection.execute(text("INSERT INTO queue_usage SELECT id, 'cpu', 1, 0, 60, now() FROM queue"))
    engines: dict[str, Engine] = {}
    made: list[str] = []
    for role in ROLES:
        name, password = f"login_{secrets.token_hex(6)}", secrets.token_hex(12)
        databases.create_login(ledger_url, name, password, [role])
        made.append(name)
        engines[role] = create_engine(ledger.url.set(username=name, password=password))
    yield engines
    for engine in engines.values():
        engine.dispose()
    with databases.connection(ledger_url) as session:
        for name in made:
            session.execute(f"DROP ROLE {name}".encode())


def may(connection: Connection, statement: str) -> bool:
    """Whether the login may run the statement; nothing of it stays. Anything but a missing right is raised."""
    savepoint = connection.begin_nested()
    try:
        connection.execute(text(statement))
    except ProgrammingError as error:
        if isinstance(error.orig, InsufficientPrivilege):
            return False
        raise
    finally:
        savepoint.rollback()
    return True


WORKLOAD = (
    "INSERT INTO workload (cluster_id, uid, namespace, name, queue_name, shape, created_at, state, resource_version, suspended)"
    " VALUES (1, 'x', 'n', 'w', 'q', 's', now(), 'Pending', '1', true)"
)
# Statement -> the roles that may run it; no other may.
RIGHTS = {
    "SELECT FROM tenant": set(ROLES),
    "SELECT FROM config_revision": set(ROLES),
    "SELECT FROM alembic_version": set(ROLES),
    "SELECT FROM workload": set(ROLES) - {"aiqueue_webhook"},
    "SELECT FROM leader": set(ROLES) - {"aiqueue_webhook"},
    "SELECT FROM queue_usage": set(ROLES) - {"aiqueue_webhook"},
    "DELETE FROM queue_usage": {"aiqueue_controller"},
    "SELECT FROM claim": set(ROLES) - {"aiqueue_webhook"},
    "DELETE FROM claim": {"aiqueue_controller"},
    "SELECT FROM audit": {"aiqueue_admin", "aiqueue_reader"},
    "INSERT INTO class (name, priority, preemptible, min_runtime_seconds, grace_period_seconds, ready_timeout_seconds,"
    " recovery_timeout_seconds, requeue_limit) VALUES ('x', 1, true, 0, 0, 0, 0, 0)": {"aiqueue_admin"},
    "UPDATE tenant SET weight_thousandths = 0": {"aiqueue_admin"},
    "DELETE FROM quota": {"aiqueue_admin"},
    "UPDATE config_revision SET revision = revision + 1": {"aiqueue_admin"},
    "SELECT FROM config_revision FOR UPDATE": {"aiqueue_admin", "aiqueue_controller"},
    "SELECT FROM config_revision FOR SHARE": {"aiqueue_admin", "aiqueue_controller"},
    "INSERT INTO audit (verb, kind, name) VALUES ('Created', 'Class', 'x')": {"aiqueue_admin", "aiqueue_controller"},
    "UPDATE audit SET name = 'y'": set(),
    "DELETE FROM audit": set(),
    WORKLOAD: {"aiqueue_controller"},
    "UPDATE workload SET state = 'Held'": {"aiqueue_controller"},
    "DELETE FROM run": {"aiqueue_controller"},
    "DELETE FROM shape_decision": {"aiqueue_controller"},
    "UPDATE leader SET term = term + 1": {"aiqueue_controller"},
    "DELETE FROM leader": set(),
    "UPDATE ledger SET uid = gen_random_uuid()": set(),
    "INSERT INTO cluster (name, kube_system_uid) VALUES ('y', 'z')": {"aiqueue_controller"},
    "DELETE FROM cluster": set(),
    "CREATE TABLE mine (id integer)": set(),
    "DROP TABLE audit": set(),
    "TRUNCATE run CASCADE": set(),
}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_it_needs_and_no_more(logins: dict[str, Engine], role: str) -> None:
    with logins[role].connect() as connection:
        found = {statement for statement in RIGHTS if may(connection, statement)}
    assert found == {statement for statement, roles in RIGHTS.items() if role in roles}


def test_no_role_has_a_right_on_a_table_that_is_not_in_the_list(ledger: Engine) -> None:
    """Whoever adds a table must say who may use it: the reader sees every table of the ledger."""
    query = text(
        "SELECT table_name FROM information_schema.role_table_grants WHERE grantee = 'aiqueue_reader' AND table_schema = 'public'"
        " AND privilege_type = 'SELECT'"
    )
    with ledger.connect() as connection:
        readable = set(connection.execute(query).scalars())
    assert readable == {*Base.metadata.tables, "alembic_version"}


def test_an_administrator_works_with_the_rights_of_its_role(logins: dict[str, Engine]) -> None:
    with transaction(logins["aiqueue_admin"]) as connection:
        assert len(usage.load(connection)) == 1
        changes = configuration.apply(connection, [Tenant("t", quotas=(Quota("f", "cpu", 2),)), Class("d")], claimed_by="ana")
        assert [change.verb for change in changes] == ["configured", "created"]
        configuration.delete(connection, "Queue", "q", "n", claimed_by="ana")
        assert usage.load(connection) == {}  # goes with its queue, though an administrator may not write it
        configuration.delete(connection, "Tenant", "t", claimed_by="ana")
        (entry, *_) = views.list_audit(connection)
        me = connection.execute(text("SELECT session_user")).scalar_one()
    assert (entry.login, entry.session_role, entry.claimed_by) == (me, me, "ana")


def test_a_reader_sees_everything_and_a_webhook_the_configuration(logins: dict[str, Engine]) -> None:
    with logins["aiqueue_reader"].connect() as connection:
        assert views.list_workloads(connection, views.WorkloadFilter(ended=True)).items == ()
        assert [view.record.name for view in views.list_tenants(connection)] == ["t"]
        assert len(views.list_audit(connection)) == 4
    with logins["aiqueue_webhook"].connect() as connection:
        loaded = configuration.load(connection)
    assert (loaded.revision, list(loaded.tenants)) == (1, ["t"])
