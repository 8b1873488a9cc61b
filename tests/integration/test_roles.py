"""What each role of the ledger may do: every privilege on every table, tried with a login that has that role and no other.

The functions of the store under these rights are in test_migrations.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from psycopg import errors as refusals
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from aiqueue.cli.harness import databases
from aiqueue.queue.tables import Base

pytestmark = pytest.mark.integration

ADMIN, CONTROLLER, READER, WEBHOOK = ROLES = ("aiqueue_admin", "aiqueue_controller", "aiqueue_reader", "aiqueue_webhook")
READ, WRITE = ("SELECT",), ("SELECT", "INSERT", "UPDATE", "DELETE")
STATEMENTS = {
    "SELECT": "SELECT * FROM TABLE_NAME LIMIT 0",
    "INSERT": "INSERT INTO TABLE_NAME DEFAULT VALUES",
    "UPDATE": "UPDATE TABLE_NAME SET COLUMN_NAME = DEFAULT WHERE false",
    "DELETE": "DELETE FROM TABLE_NAME WHERE false",
    "TRUNCATE": "TRUNCATE TABLE_NAME CASCADE",
    "LOCK": "LOCK TABLE TABLE_NAME IN ACCESS EXCLUSIVE MODE NOWAIT",
}
PRIVILEGES = tuple(STATEMENTS)
VERSION_TABLE = "alembic_version"
TABLES = (*sorted(Base.metadata.tables), VERSION_TABLE)

CONFIGURATION = ("flavor", "class", "tenant", "quota", "queue", "queue_class")
WORK = (
    "workload",
    "pod_set",
    "run",
    "allocation",
    "claim",
    "queue_usage",
    "shape_decision",
    "workload_decision",
    "action",
    "archived_workload",
    "archived_run",
)
#: What each role may do beyond reading everything (webhook: the configuration).
RIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    ADMIN: {
        **dict.fromkeys(TABLES, READ),
        **dict.fromkeys(CONFIGURATION, WRITE),
        "config_revision": ("SELECT", "UPDATE"),
        "audit": ("SELECT", "INSERT"),
    },
    CONTROLLER: {
        **dict.fromkeys(TABLES, READ),
        **dict.fromkeys(WORK, WRITE),
        "leader": ("SELECT", "UPDATE"),
        "leader_lease": ("SELECT", "UPDATE"),
        "leader_backend": WRITE,
        "cluster": ("SELECT", "INSERT"),
        "plan": ("SELECT", "INSERT", "DELETE"),
        "audit": ("INSERT",),
    },
    READER: dict.fromkeys(TABLES, READ),
    WEBHOOK: dict.fromkeys((*CONFIGURATION, "config_revision", VERSION_TABLE), READ),
}


@pytest.fixture
def as_role(ledger: Engine, ledger_url: str, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A session of a login that is a member of one role."""
    role = str(request.param)
    name, password = f"login_{secrets.token_hex(6)}", secrets.token_hex(12)
    databases.create_login(ledger_url, name, password, [role])
    engine = create_engine(ledger.url.set(username=name, password=password))
    with engine.connect() as connection:
        yield connection
    engine.dispose()
    with databases.connection(ledger_url) as session:
        session.execute(f"DROP ROLE {name}".encode())


def refused(connection: Connection, statement: str) -> bool:
    """Whether a right is missing. Rights are looked at before the row, so one that breaks a constraint was let in."""
    savepoint = connection.begin_nested()
    try:
        connection.execute(text(statement))
    except DBAPIError as error:
        if isinstance(error.orig, refusals.InsufficientPrivilege):
            return True
        if isinstance(error.orig, refusals.IntegrityError):
            return False
        raise
    finally:
        savepoint.rollback()
    return False


def attempt(table: str, privilege: str) -> str:
    """A statement that needs this privilege alone, and changes nothing that is there."""
    return STATEMENTS[privilege].replace("TABLE_NAME", f'"{table}"').replace("COLUMN_NAME", f'"{updatable(table)}"')


def updatable(table: str) -> str:
    """A column of it other than `id`, on which the controller has a right of its own."""
    if table == VERSION_TABLE:
        return "version_num"
    return next(column.name for column in Base.metadata.tables[table].columns if column.name != "id")


def may(connection: Connection, table: str) -> tuple[str, ...]:
    return tuple(each for each in PRIVILEGES if not refused(connection, attempt(table, each)))


@pytest.mark.parametrize("as_role", ROLES, indirect=True)
def test_matrix(as_role: Connection, request: pytest.FixtureRequest) -> None:
    role = request.node.callspec.params["as_role"]
    expected = {table: RIGHTS[role].get(table, ()) for table in TABLES}
    # Whoever may write a table may hold it up, and whoever may change or delete all of its rows loses nothing by it.
    locks = {table: (*rights, "LOCK") if {"UPDATE", "DELETE"} & set(rights) else rights for table, rights in expected.items()}
    assert {table: may(as_role, table) for table in TABLES} == locks


def test_only_the_owner_may_empty_a_table(ledger: Engine) -> None:
    """The statements of the matrix are right: nothing stops the owner."""
    with ledger.connect() as connection:
        for table in TABLES:
            assert may(connection, table) == PRIVILEGES


@pytest.mark.parametrize("as_role", [WEBHOOK], indirect=True)
def test_a_webhook_sees_no_work_and_nobody_who_asked_for_it(as_role: Connection) -> None:
    for table in (*WORK, "audit", "plan", "leader", "leader_backend", "cluster", "ledger"):
        assert may(as_role, table) == (), table
    for statement in ("SELECT id FROM workload", "SELECT user_name FROM workload", "SELECT count(*) FROM run"):
        assert refused(as_role, statement), statement


@pytest.mark.parametrize("as_role", [CONTROLLER], indirect=True)
def test_the_one_column_that_the_controller_may_lock_by_cannot_change(as_role: Connection) -> None:
    """SELECT ... FOR SHARE needs the right to update a column; a constraint fixes this one."""
    assert not refused(as_role, "SELECT FROM config_revision FOR SHARE")
    assert refused(as_role, "UPDATE config_revision SET revision = revision + 1")
    savepoint = as_role.begin_nested()
    with pytest.raises(DBAPIError) as caught:
        as_role.execute(text("UPDATE config_revision SET id = 2"))
    savepoint.rollback()
    assert isinstance(caught.value.orig, refusals.CheckViolation)


@pytest.mark.parametrize("as_role", ROLES, indirect=True)
def test_nobody_makes_anything_of_his_own(as_role: Connection) -> None:
    for statement in (
        "CREATE TABLE mine (id integer)",
        "CREATE VIEW mine AS SELECT 1",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "ALTER TABLE tenant ADD COLUMN mine integer",
        "DROP TABLE archived_run",
        "CREATE INDEX mine ON tenant (name)",
        "CREATE TRIGGER mine BEFORE INSERT ON tenant FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "COPY tenant TO '/tmp/tenants'",
        "COPY tenant TO PROGRAM 'cat'",
        "CREATE ROLE mine",
        "ALTER ROLE aiqueue_admin LOGIN",
    ):
        assert refused(as_role, statement), statement


@pytest.mark.parametrize("as_role", ROLES, indirect=True)
def test_nobody_takes_another_role(as_role: Connection, request: pytest.FixtureRequest, ledger: Engine) -> None:
    own = request.node.callspec.params["as_role"]
    owner = ledger.url.username
    for role in (*ROLES, owner):
        assert refused(as_role, f'SET ROLE "{role}"') is (role != own), role
    assert refused(as_role, f'SET SESSION AUTHORIZATION "{owner}"')
    for role in ROLES:
        assert refused(as_role, f"GRANT {role} TO CURRENT_USER"), role


def test_the_roles_themselves_have_no_attribute_and_no_membership(ledger: Engine) -> None:
    attributes = text(
        "SELECT rolname, rolsuper OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication OR rolbypassrls"
        " FROM pg_roles WHERE rolname = ANY(:roles)"
    )
    with ledger.connect() as connection:
        found = connection.execute(attributes, {"roles": list(ROLES)}).all()
        assert sorted((name, more) for name, more in found) == [(role, False) for role in ROLES]
        members = connection.execute(
            text("SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = ANY(:roles)"),
            {"roles": list(ROLES)},
        )
        assert members.scalar_one() == 0


def test_the_public_has_nothing(ledger: Engine, ledger_url: str) -> None:
    """A login without any role may connect, and see that there are tables."""
    name, password = f"login_{secrets.token_hex(6)}", secrets.token_hex(12)
    databases.create_login(ledger_url, name, password)
    engine = create_engine(ledger.url.set(username=name, password=password))
    with engine.connect() as connection:
        assert {table: may(connection, table) for table in TABLES} == dict.fromkeys(TABLES, ())
        assert refused(connection, "CREATE TABLE mine (id integer)")
    engine.dispose()
    with databases.connection(ledger_url) as session:
        session.execute(f"DROP ROLE {name}".encode())
    with ledger.connect() as connection:
        grants = "SELECT count(*) FROM information_schema.{} WHERE grantee = 'PUBLIC' AND table_schema = 'public'"
        for view in ("table_privileges", "column_privileges"):
            assert connection.execute(text(grants.format(view))).scalar_one() == 0
        definers = "SELECT count(*) FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
        assert connection.execute(text(definers)).scalar_one() == 0
