"""Certificates in a folder: real files, real processes, and a real TLS server that serves them."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aiqueue.admission.certificates import files, material, provide, x509
from aiqueue.queue.errors import InvalidInput
from fix_certificates import HOUR, authorities, served, shakes_hands, signed_by

HOSTS = ("localhost", "127.0.0.1")
#: So long ago that the authority is due now; each step is then good at the real time.
LONG_AGO = datetime.now(UTC) - material.AUTHORITY_FOR + material.AUTHORITY_RENEWED_BEFORE


def content(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_made_once_private_and_believed(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "certificates"
    assert provide(folder, HOSTS)
    before = content(folder)
    assert set(before) == {"ca.crt", "ca.key", "ca.published", "tls.crt", "tls.key", files.LOCK}
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}
    assert (modes["ca.key"], modes["tls.key"]) == (0o600, 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert provide(folder, HOSTS) == ()
    assert content(folder) == before
    for host in HOSTS:
        assert shakes_hands(str(folder / "tls.crt"), str(folder / "tls.key"), before["ca.crt"], host)


def test_a_client_connects_over_tls(tmp_path: Path) -> None:
    provide(tmp_path, HOSTS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            near, _ = listener.accept()
            with context.wrap_socket(near, server_side=True) as connection:
                connection.sendall(b"hello")

        thread = threading.Thread(target=answer)
        thread.start()
        client = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        with (
            socket.create_connection(listener.getsockname()) as raw,
            client.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
        ):
            assert connection.recv(5) == b"hello"
        thread.join(10)


def test_the_steps_of_a_new_authority(tmp_path: Path) -> None:
    provide(tmp_path, HOSTS, now=LONG_AGO)
    old = files.read(tmp_path)
    assert old is not None
    now = datetime.now(UTC)
    assert len(provide(tmp_path, HOSTS, now=now)) == 3  # a new authority; the serving certificate is over, so it is issued
    announced = files.read(tmp_path)
    assert announced is not None
    assert authorities(announced)[1] == authorities(old)[0]
    assert signed_by(announced, 1)
    provide(tmp_path, HOSTS, now=now + HOUR)
    provide(tmp_path, HOSTS, now=now + 2 * HOUR)
    done = files.read(tmp_path)
    assert done is not None
    assert authorities(done) == authorities(announced)[:1]
    assert signed_by(done, 0)


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "tls.crt", "tls.key", "ca.published"])
@pytest.mark.parametrize("damage", [None, b"", b"nonsense"])
def test_a_file_that_is_gone_or_damaged(tmp_path: Path, name: str, damage: bytes | None) -> None:
    provide(tmp_path, HOSTS)
    (tmp_path / name).unlink()
    if damage is not None:
        (tmp_path / name).write_bytes(damage)
    said = provide(tmp_path, HOSTS)
    assert said or name == "ca.published"
    held = files.read(tmp_path)
    assert held is not None
    assert shakes_hands(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"), held.bundle, "localhost")
    # A key that somebody could read meanwhile would be no secret.
    assert stat.S_IMODE((tmp_path / "tls.key").stat().st_mode) == 0o600


def test_many_at_once_end_with_one_authority(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from aiqueue.admission.certificates import provide;"
        "print('ready', flush=True); sys.stdin.readline(); print(len(provide(Path(sys.argv[1]), ('localhost',))))"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    crowd = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for each in crowd:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in crowd:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    said = [each.communicate(timeout=60)[0].strip() for each in crowd]
    assert sorted(said) == ["0", "0", "0", "2"]
    held = files.read(tmp_path)
    assert held is not None
    assert shakes_hands(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"), held.bundle, "localhost")
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".tls")]


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(files.UnusableFolder, match="name a folder that can be written"):
        provide(tmp_path / "file", HOSTS)
    with pytest.raises(InvalidInput):
        provide(tmp_path / "new", ("no host",))
    assert not (tmp_path / "new" / "ca.key").exists()


def run(*arguments: str, folder: Path, expect: int) -> tuple[str, str]:
    argv = [sys.executable, "-W", "error", "-m", "aiqueue.cli.main", "certificates", *arguments]
    environment = {"PATH": os.defpath, "HOME": str(folder)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expect, done
    assert "Traceback" not in done.stderr
    assert "PRIVATE KEY" not in done.stdout + done.stderr
    return done.stdout, done.stderr


def test_the_command(tmp_path: Path) -> None:
    where = str(tmp_path / "made")
    out, _ = run("folder", where, "--host", "localhost", "--host", "127.0.0.1", folder=tmp_path, expect=0)
    assert "there is no certificate yet: an authority is made" in out
    assert "127.0.0.1, localhost: good until 2" in out
    again, _ = run("folder", where, "--host=127.0.0.1", "--host=localhost", "-o", "json", folder=tmp_path, expect=0)
    facts = json.loads(again)
    assert (facts["changed"], facts["done"], facts["hosts"]) == (False, [], ["127.0.0.1", "localhost"])
    held = files.read(tmp_path / "made")
    assert held is not None
    assert datetime.fromisoformat(facts["valid_until"]) == served(held).not_valid_after_utc
    assert len(facts["authorities_valid_until"]) == len(x509.blocks_of(held.bundle)) == 1


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    _, err = run("folder", str(tmp_path / "made"), "--host=a b", folder=tmp_path, expect=1)
    assert err == "error: host is 'a b': write a DNS name such as aiqueue-webhook.aiqueue-system.svc, or an IP address\n"
    _, err = run("keep", folder=tmp_path, expect=1)
    assert "outside a cluster name a kubeconfig file" in err


def test_a_folder_used_for_longer_than_a_certificate_lives(tmp_path: Path) -> None:
    begin = datetime.now(UTC) - timedelta(days=400)
    for days in range(0, 400, 29):
        provide(tmp_path, HOSTS, now=begin + timedelta(days=days))
        held = files.read(tmp_path)
        assert held is not None
        assert served(held).not_valid_after_utc - begin > timedelta(days=days + 29)
