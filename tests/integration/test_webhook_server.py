"""What a webhook process does with its port, its certificate, its signals and with whoever connects."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

import fix_nursery
from aiqueue.admission.webhook import process
from aiqueue.cli.harness import ports
from aiqueue.cli.harness.certificates import Authority
from aiqueue.queue.settings import Settings
from fix_doors import WebhookProcess, Webhooks, without_cluster
from fix_ledger import Copies
from fix_reviews import PATH, Client, job, review

pytestmark = pytest.mark.integration
TEAM = "team-a"
MIB = 2**20
#: How long a test would wait for whoever does not end a connection.
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def standing(ledger_copies: Copies, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebhookProcess]:
    """A webhook that is ready, for tests that only ask it."""
    url = ledger_copies.take()
    with without_cluster(url, tmp_path_factory.mktemp("standing")) as webhooks:
        yield webhooks.await_ready(webhooks.start())
    ledger_copies.give_back(url)


def body_of(queue: str = "train") -> bytes:
    return json.dumps(review(job(TEAM, queue))).encode()


class Load:
    """Reviews sent one after the other over each of some keep-alive connections, until stopped. Every failure is kept."""

    def __init__(self, webhook: WebhookProcess, connections: int = 4) -> None:
        self.answered = 0
        self.failures: list[str] = []
        #: Stop when told that a connection ends with its answer.
        self.leave_when_told = False
        self._webhook = webhook
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(connections)]

    def __enter__(self) -> Load:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.wait()

    def wait(self) -> None:
        for each in self._threads:
            each.join()

    def _send(self) -> None:
        with Client(self._webhook, connections=1) as client:
            while not self._stop.is_set():
                try:
                    verdict = client.ask(job(TEAM, "train"))
                except Exception as error:  # noqa: BLE001 -- told by the test
                    self.failures.append(repr(error))
                    return
                assert verdict.allowed
                self.answered += 1
                if verdict.last and self.leave_when_told:
                    return


@contextmanager
def connected(webhook: WebhookProcess) -> Iterator[ssl.SSLSocket]:
    """A TLS connection, its certificate verified."""
    context = ssl.create_default_context(cafile=str(webhook.ca_file))
    raw = socket.create_connection(("127.0.0.1", webhook.port), timeout=PATIENCE_SECONDS)
    with raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as secure:
        yield secure


def serial_of(webhook: WebhookProcess) -> str:
    with connected(webhook) as secure:
        shown = secure.getpeercert()
    assert shown is not None
    return str(shown["serialNumber"])


def received(connection: socket.socket) -> bytes:
    """Everything until the other side ends the connection, however it does that."""
    chunks = []
    try:
        while chunk := connection.recv(65536):
            chunks.append(chunk)
    except (ConnectionResetError, ssl.SSLError):
        pass
    return b"".join(chunks)


def test_a_new_certificate_is_served_without_a_dropped_request(webhooks: Webhooks) -> None:
    webhook = webhooks.await_ready(webhooks.start())
    first = serial_of(webhook)
    with Load(webhook) as load:
        for _ in range(2):
            before, sent = serial_of(webhook), load.answered
            Authority.open(webhooks.certificates).serving("tls")
            webhooks.until(lambda before=before: serial_of(webhook) != before, "the new certificate")  # type: ignore[misc]  # bound now
            webhooks.until(lambda sent=sent: load.answered > sent + 20, "more answers")  # type: ignore[misc]  # bound now
    assert load.failures == []
    assert serial_of(webhook) != first


def test_a_certificate_that_is_no_pair_changes_nothing(webhooks: Webhooks) -> None:
    webhook = webhooks.await_ready(webhooks.start())
    first = serial_of(webhook)
    certificate, key = (webhooks.certificates / name for name in ("tls.crt", "tls.key"))
    good = certificate.read_bytes()
    other = Authority.open(webhooks.folder / "other").serving("tls")
    for wrong in (other.certificate.read_bytes(), b""):
        said = webhook.said().count("certificate not served")
        certificate.write_bytes(wrong)
        webhooks.until(lambda said=said: webhook.said().count("certificate not served") > said, "a warning")  # type: ignore[misc]  # bound now
        assert serial_of(webhook) == first
        status, text = webhook.get("/readyz")
        assert status == 200
        assert "an older certificate is served: tls.crt and tls.key" in text
        certificate.write_bytes(good)
        webhooks.until(lambda: webhook.get("/readyz") == (200, "ok\n"), "nothing to remark")
    key.unlink()
    webhooks.until(lambda: "tls.key cannot be read" in webhook.get("/readyz")[1], "a remark")
    assert serial_of(webhook) == first


def test_it_waits_for_its_certificate(webhooks: Webhooks) -> None:
    folder = webhooks.folder / "late"
    folder.mkdir()
    webhook = webhooks.start(webhook_certificate_folder=str(folder))
    webhooks.until(lambda: "it is waited for" in webhook.said(), "a warning")
    assert webhook.get("/readyz")[0] == 0
    for name in ("tls.key", "tls.crt"):
        (folder / name).write_bytes((webhooks.certificates / name).read_bytes())
    webhooks.await_ready(webhook)


@pytest.mark.parametrize(
    ("version", "served"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)]
)
def test_only_newer_tls_is_spoken(standing: WebhookProcess, version: ssl.TLSVersion, *, served: bool) -> None:
    context = ssl.create_default_context(cafile=str(standing.ca_file))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else it is the client that will not
    with pytest.warns(DeprecationWarning, match="TLSv1_1") if not served else _nothing():
        context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", standing.port), timeout=10) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="127.0.0.1") as secure:
                spoken = secure.version()
        except ssl.SSLError:
            spoken = None
    assert (spoken is not None) is served


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def test_draining_fails_no_request(webhooks: Webhooks) -> None:
    webhook = webhooks.await_ready(webhooks.start(webhook_drain_seconds="5"))
    with Load(webhook) as load, Client(webhook) as probe:
        webhooks.until(lambda: load.answered > 20, "answers")
        load.leave_when_told = True
        webhook.signal(signal.SIGTERM)
        asked = time.monotonic()
        webhooks.until(lambda: probe.send(None, path="/readyz", method="GET").status == 503, "it not to be ready any more")
        assert time.monotonic() - asked < 4
        assert "asked to stop" in webhook.get("/readyz")[1]
        assert probe.ask(job(TEAM, "train")).last
        load.wait()
    webhooks.until(webhook.ended, "its end")
    assert load.failures == []
    assert webhook.process.returncode == 0
    assert "Traceback" not in webhook.said()
    assert time.monotonic() - asked > 4.5


def test_a_second_signal_ends_it_at_once(webhooks: Webhooks) -> None:
    webhook = webhooks.await_ready(webhooks.start(webhook_drain_seconds="100"))
    webhook.signal(signal.SIGINT)
    webhooks.until(lambda: "draining" in webhook.said(), "draining")
    webhook.signal(signal.SIGTERM)
    webhooks.until(webhook.ended, "its end")
    assert webhook.process.returncode == 0


def test_bodies_over_three_mebibytes_are_refused_with_413(standing: WebhookProcess) -> None:
    with Client(standing) as client:
        for size in (3 * MIB + 1, 12 * MIB):
            chunked = iter([b"x" * 65536] * (size // 65536 + 1))
            for sent in (b"x" * size, chunked):
                answer = client.send(sent)
                assert answer.status == 413
                assert answer.data.startswith(b"the body is larger than 3145728 bytes")
        # The largest that the API server could send is taken.
        padded = job(TEAM, "train", annotations={"note": "x" * (3 * MIB - 4096)})
        assert client.ask(padded).allowed
    with connected(standing) as secure:  # who only announces it is not waited for
        secure.sendall(_head(f"Content-Length: {100 * MIB}"))
        assert b" 413 " in secure.recv(65536)


def _head(*lines: str, path: str = PATH) -> bytes:
    written = "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *lines])
    return f"{written}\r\n\r\n".encode()


def test_what_is_no_review_gets_a_status_and_a_sentence(standing: WebhookProcess) -> None:
    with Client(standing) as client:
        cases = [
            (client.send(None, method="GET"), 405),
            (client.send(body_of(), path="/healthz"), 405),
            (client.send(body_of(), path="/"), 404),
            (client.send(body_of(), path=PATH + "/"), 404),
            (client.send(body_of(), Content_Type="text/plain"), 415),
            (client.send(b"{}"), 400),
            (client.send(b""), 400),
        ]
        for answer, status in cases:
            assert answer.status == status, answer.data
            assert len(answer.data.split()) > 4, answer.data
        assert client.send(body_of(), Content_Type="application/json; charset=utf-8").status == 200


def test_slow_and_silent_connections_are_closed(standing: WebhookProcess) -> None:
    webhook = standing
    plain = socket.create_connection(("127.0.0.1", webhook.port), timeout=PATIENCE_SECONDS)
    with (
        plain,
        connected(webhook) as silent,
        connected(webhook) as head,
        connected(webhook) as body,
        connected(webhook) as large,
    ):
        began = time.monotonic()
        head.sendall(b"POST /validate/jobs HT")
        body.sendall(_head("Content-Length: 100") + b"{")
        large.sendall(b"GET / HTTP/1.1\r\n" + b"X-Filler: y\r\n" * 20_000)
        assert received(large) == b""
        assert time.monotonic() - began < PATIENCE_SECONDS / 4
        assert b" 408 " in received(body)
        assert time.monotonic() - began < PATIENCE_SECONDS / 3
        assert received(silent) == received(head) == b""
        assert received(plain) == b""  # no handshake
        assert time.monotonic() - began < PATIENCE_SECONDS / 2
    with Client(webhook) as client:
        assert client.ask(job(TEAM, "train")).allowed
    assert "Traceback" not in webhook.said()


def test_two_share_a_port_only_when_told_to(webhooks: Webhooks) -> None:
    (port,) = ports.choose(1)
    first, second = (webhooks.start(port=port, webhook_share_port="true") for _ in range(2))
    for each in (first, second):
        webhooks.until(lambda each=each: "configuration loaded" in each.said(), "a configuration")  # type: ignore[misc]  # bound now
    webhooks.await_ready(first)
    alone = webhooks.start(port=port)
    webhooks.until(alone.ended, "its end")
    assert alone.process.returncode == 1
    assert "cannot listen there" in alone.said()
    assert "Traceback" not in alone.said()
    assert not first.ended()
    assert not second.ended()


def test_an_ipv6_address_is_written_in_brackets(webhooks: Webhooks) -> None:
    (port,) = ports.choose(1)
    webhook = webhooks.start(port=port, webhook_address=f"[::]:{port}")
    webhooks.await_ready(webhook)  # by IPv4
    with socket.create_connection(("::1", port), timeout=5) as connection:
        assert connection.family == socket.AF_INET6


def test_a_process_that_follows_nothing_is_sick(tmp_path: Path) -> None:
    url, where = SecretStr("postgresql://nobody@127.0.0.1:9/nothing"), "127.0.0.1:0"
    webhook = process.Webhook(Settings(database_url=url, webhook_certificate_folder=tmp_path, webhook_address=where))
    try:
        # It was not started, so its thread is as dead as one that ended.
        (sick,) = webhook.sick()
        assert "the thread that follows the configuration has ended" in sick
        assert webhook.problems()[0] == sick
    finally:
        webhook._application.close()
        webhook._socket.close()


WRONG_SETTINGS = [
    ("AIQUEUE_DATABASE_URL", "", "AIQUEUE_DATABASE_URL is ''"),
    ("AIQUEUE_DATABASE_URL", "mysql://here", "write postgresql://"),
    ("AIQUEUE_WEBHOOK_CERTIFICATE_FOLDER", None, "AIQUEUE_WEBHOOK_CERTIFICATE_FOLDER is ''"),
    ("AIQUEUE_WEBHOOK_ADDRESS", "8443", "write host:port"),
    ("AIQUEUE_WEBHOOK_ADDRESS", "::1:8443", "write host:port"),
    ("AIQUEUE_WEBHOOK_ADDRESS", "192.0.2.1:8443", "cannot listen there"),
]


def _started_with(folder: Path, log: Path, variable: str, value: str | None) -> tuple[int, str]:
    """Exit status and what was said of a webhook with one wrong setting."""
    given = {
        "AIQUEUE_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing",
        "AIQUEUE_WEBHOOK_CERTIFICATE_FOLDER": str(folder),
        "AIQUEUE_WEBHOOK_ADDRESS": "127.0.0.1:0",
        variable: value,
    }
    environment = {name: each for name, each in given.items() if each is not None}
    return fix_nursery.start("webhook", environment, log).wait(PATIENCE_SECONDS), log.read_text()


def test_wrong_settings_are_sentences(tmp_path: Path) -> None:
    for number, (variable, value, sentence) in enumerate(WRONG_SETTINGS):
        status, said = _started_with(tmp_path, tmp_path / f"{number}.log", variable, value)
        assert status == 1, (variable, value)
        assert sentence in said
        assert len(said.strip().splitlines()) == 1
