"""Who a ledger must prove to be: the rule by itself, and a real server whose certificate is ours, another's or none."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url, text

from aiqueue.cli.harness.certificates import Authority, Pair
from aiqueue.cli.harness.ports import LOOPBACK
from aiqueue.queue.database import conninfo, open_database, transaction
from aiqueue.queue.errors import InvalidInput, LedgerError
from fix_doors import Webhooks

pytestmark = pytest.mark.integration

#: How a client asks for TLS before anything else: the length of the request and its code.
SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
#: An OpenSSL that was told what the system trusts.
TOLD = {"SSL_CERT_FILE": "/etc/trusted.crt"}
VERIFIED = {"sslmode": "verify-full", "sslrootcert": "system"}
NAME_THE_AUTHORITY = (
    "the server must serve TLS with a certificate for its host name: name the file of the authority that signed it in "
    "PGSSLROOTCERT, or sslrootcert in the database URL"
)


def tls_of(url: str, environment: dict[str, str] | None = None) -> dict[str, object]:
    """What of TLS libpq is told."""
    found = conninfo_to_dict(conninfo(url, TOLD | (environment or {})))
    return {key: value for key, value in found.items() if key.startswith("ssl")}


@pytest.mark.parametrize(("given", "seconds"), [("", "5"), ("?connect_timeout=37", "37")])
def test_how_long_a_connection_may_take_is_for_the_url_to_say(server_url: str, given: str, seconds: str) -> None:
    database = open_database(f"{server_url}{given}", application_name="aiqueue-test")
    with transaction(database) as connection:
        session = connection.connection.dbapi_connection
        assert isinstance(session, psycopg.Connection)
        assert session.info.get_parameters()["connect_timeout"] == seconds
    database.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@ledger.example:5432/d",
        "postgresql+psycopg://u:p@10.0.0.7/d",
        "postgresql://u@[fd00::7]/d",
        "postgresql://u@/d?host=ledger.example",
        "postgresql://u@/d?host=127.0.0.1:1&host=ledger.example:2",
        "postgresql://u@localhost/d?hostaddr=10.0.0.7",
        "postgresql://u@/d?service=ledger",
        "postgresql://u@localhost.example/d",
    ],
)
def test_a_server_on_another_machine_is_verified(url: str) -> None:
    assert tls_of(url) == VERIFIED


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@127.0.0.1:5432/d",
        "postgresql://u@127.8.9.1/d",
        "postgresql://u@[::1]/d",
        "postgresql://u@localhost/d",
        "postgresql://u@/d",
        "postgresql://u@/d?host=/var/run/postgresql",
        "postgresql://u@ledger.example/d?hostaddr=127.0.0.1",
    ],
)
def test_this_machine_needs_no_certificate(url: str) -> None:
    assert tls_of(url) == {}


def test_the_environment_names_hosts_too() -> None:
    assert tls_of("postgresql://u@/d", {"PGHOST": "ledger.example"}) == VERIFIED
    assert tls_of("postgresql://u@/d", {"PGHOSTADDR": "10.0.0.7"}) == VERIFIED
    assert tls_of("postgresql://u@/d", {"PGSERVICE": "ledger"}) == VERIFIED
    assert tls_of("postgresql://u@127.0.0.1/d", {"PGHOST": "ledger.example", "PGSERVICE": "ledger"}) == {}


def test_whoever_says_otherwise_is_obeyed(tmp_path: Path) -> None:
    url = "postgresql://u@ledger.example/d"
    assert tls_of(f"{url}?sslmode=require") == {"sslmode": "require"}
    assert tls_of(url, {"PGSSLMODE": "disable"}) == {}
    assert tls_of(f"{url}?sslrootcert=/etc/ca.crt") == {"sslmode": "verify-full", "sslrootcert": "/etc/ca.crt"}
    # libpq reads these by itself.
    assert tls_of(url, {"PGSSLROOTCERT": "/etc/ca.crt"}) == {"sslmode": "verify-full"}
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    assert tls_of(url, {"HOME": str(tmp_path)}) == {"sslmode": "verify-full"}


def test_the_systems_authorities_are_found_where_openssl_does_not_know_them() -> None:
    found = conninfo_to_dict(conninfo("postgresql://u@ledger.example/d", {}))["sslrootcert"]
    assert found == "system" or "BEGIN CERTIFICATE" in Path(str(found)).read_text()


def test_the_rest_of_the_url_is_kept() -> None:
    found = conninfo_to_dict(
        conninfo("postgresql+psycopg://ann:a%20b%40c'@ledger.example:6432/aiqueue?connect_timeout=3", TOLD)
    )
    assert found == {
        "host": "ledger.example",
        "port": "6432",
        "user": "ann",
        "password": "a b@c'",
        "dbname": "aiqueue",
        "connect_timeout": "3",
        **VERIFIED,
    }


@pytest.mark.parametrize("url", ["", "mysql://u:secret@h/d", "no url with secret"])
def test_another_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(InvalidInput, match="write postgresql://user@host:port/database") as refused:
        conninfo(url, {})
    assert "secret" not in str(refused.value)


class TlsFront:
    """TLS before a Postgres server, as a pooler or a load balancer puts it there; the wheel's server has none of its own.

    Attributes:
        port: where it listens on loopback.
    """

    def __init__(self, target: int, pair: Pair) -> None:
        self._target = target
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, LOOPBACK, 0))
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-front")
        self._thread.start()

    async def _serve(self, near: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            while await near.readexactly(8) != SSL_REQUEST:  # asks for Kerberos first
                answer.write(b"N")
            answer.write(b"S")
            await answer.drain()
            await answer.start_tls(self._context)
            far, ask = await asyncio.open_connection(LOOPBACK, self._target)
            await asyncio.gather(self._carry(near, ask), self._carry(far, answer))
        except (ssl.SSLError, OSError, asyncio.IncompleteReadError):
            answer.close()  # the client hung up, as it should on a certificate that it does not trust

    @staticmethod
    async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for each in rest:
                each.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A ledger behind TLS with a certificate for loopback, and who signed it."""

    url: str
    authority: Path
    another: Path


@pytest.fixture(scope="module")
def tls_server(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    folder = tmp_path_factory.mktemp("tls")
    ours, another = Authority.open(folder / "ours"), Authority.open(folder / "another", name="another authority")
    plain = make_url(server_url)
    assert plain.port is not None
    front = TlsFront(plain.port, ours.serving("server"))
    url = plain.set(host=LOOPBACK, port=front.port).render_as_string(hide_password=False)
    yield TlsServer(url, ours.file, another.file)
    front.close()


def verified(server: TlsServer, authority: Path) -> str:
    """The URL with which a server elsewhere would be verified."""
    query = {"sslmode": "verify-full", "sslrootcert": str(authority)}
    return make_url(server.url).update_query_dict(query).render_as_string(hide_password=False)


def test_a_server_with_a_certificate_of_the_named_authority_is_taken(tls_server: TlsServer) -> None:
    url = verified(tls_server, tls_server.authority)
    database = open_database(url, application_name="test")
    with transaction(database) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        assert driver.pgconn.ssl_in_use
    database.dispose()
    with psycopg.connect(conninfo(url)) as session:
        assert session.pgconn.ssl_in_use


def test_a_server_of_another_authority_is_refused_with_a_sentence(tls_server: TlsServer) -> None:
    url = verified(tls_server, tls_server.another)
    database = open_database(url, application_name="test")
    with pytest.raises(LedgerError, match="certificate verify failed") as refused, transaction(database):
        pytest.fail("a server that cannot be trusted was trusted")
    database.dispose()
    assert str(refused.value).endswith(NAME_THE_AUTHORITY)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(conninfo(url))


def test_a_certificate_for_another_name_is_refused(tls_server: TlsServer) -> None:
    """The name is what counts, not the address it leads to: `wrong.example` is told to be at loopback."""
    url = verified(tls_server, tls_server.authority).replace("@127.0.0.1:", "@wrong.example:") + "&hostaddr=127.0.0.1"
    database = open_database(url, application_name="test")
    with pytest.raises(LedgerError, match=r'does not match host name "wrong\.example"') as refused, transaction(database):
        pytest.fail("a server of another name was trusted")
    database.dispose()
    assert NAME_THE_AUTHORITY in str(refused.value)


def test_a_server_without_tls_is_refused(tls_server: TlsServer, server_url: str) -> None:
    plain = TlsServer(server_url, tls_server.authority, tls_server.another)
    database = open_database(verified(plain, plain.authority), application_name="test")
    with pytest.raises(LedgerError, match="server does not support SSL") as refused, transaction(database):
        pytest.fail("a server without TLS was trusted")
    database.dispose()
    assert NAME_THE_AUTHORITY in str(refused.value)


def test_an_authority_that_is_not_there_is_named(tls_server: TlsServer, tmp_path: Path) -> None:
    database = open_database(verified(tls_server, tmp_path / "missing.crt"), application_name="test")
    with pytest.raises(LedgerError, match=r"missing\.crt.* does not exist"), transaction(database):
        pytest.fail("a server was trusted without an authority")
    database.dispose()


def behind_tls(webhooks: Webhooks, server: TlsServer, authority: Path) -> None:
    """Have webhooks reach the ledger through TLS, believing this authority."""
    front = make_url(server.url)
    query = {"sslmode": "verify-full", "sslrootcert": str(authority)}
    url = make_url(webhooks.webhook_url).set(host=front.host, port=front.port).update_query_dict(query)
    webhooks.webhook_url = url.render_as_string(hide_password=False)


def test_a_webhook_works_with_a_ledger_behind_tls(webhooks: Webhooks, tls_server: TlsServer) -> None:
    """All of its sessions: those of the pool, and the one that listens."""
    behind_tls(webhooks, tls_server, tls_server.authority)
    started = webhooks.await_ready(webhooks.start())
    sessions = text("SELECT query FROM pg_stat_activity WHERE usename = :user AND datname = current_database()")

    def listens() -> bool:
        with transaction(webhooks.ledger) as connection:
            found = connection.execute(sessions, {"user": make_url(webhooks.webhook_url).username})
            return any(query.startswith("LISTEN") for query in found.scalars())

    webhooks.until(listens, "the webhook to listen")
    assert "not listening" not in started.said()


def test_a_webhook_that_cannot_trust_its_ledger_says_so(webhooks: Webhooks, tls_server: TlsServer) -> None:
    behind_tls(webhooks, tls_server, tls_server.another)
    started = webhooks.start()
    webhooks.until(lambda: NAME_THE_AUTHORITY in started.get("/readyz")[1], "the webhook to say what is wrong")
    assert started.get("/readyz")[0] == 503
