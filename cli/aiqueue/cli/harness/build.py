"""The six programs of a cluster: found, or built once and kept.

Search order: the folder KUBEBUILDER_ASSETS, the cache, PATH (all six, in the pinned version), a build.
The cache is keyed by what decides the result (module files, recipe, machine), so checkouts with the same pins
share it and others do not meet. A build happens in a folder of its own and is renamed into place as its
last step: what is in the cache is whole, and an interrupted build leaves only a folder that the next removes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from aiqueue.cli import resources
from aiqueue.cli.harness import folders, processes, toolchain
from aiqueue.cli.harness.errors import HarnessError, ProgramFailed
from aiqueue.cli.harness.progress import Progress, for_this_terminal

ETCD = "etcd"
APISERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
KWOK = "kwok"
KUBECTL = "kubectl"
PROGRAMS = (ETCD, APISERVER, CONTROLLER_MANAGER, SCHEDULER, KWOK, KUBECTL)

#: Changing how the build is done must change the key of the cache; this counts such changes.
RECIPE = 1
STAGE_CRD = "kustomize/crd/bases/kwok.x-k8s.io_stages.yaml"
BUILD_SECONDS = 3600.0
VERSION_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with the six programs."""

    folder: Path
    #: kwok's definition of the kind Stage; None where the programs came without it.
    stage_crd: Path | None

    def path(self, name: str) -> Path:
        """The path of one program."""
        return self.folder / name


@dataclass(frozen=True, slots=True)
class Pins:
    """What is built: module files and the Kubernetes version they name."""

    go_mod: str
    go_sum: str

    @classmethod
    def read(cls, folder: Path | None = None) -> Pins:
        """Read the module files, D those that ship with aiqueue."""
        folder = folder or resources.manifests_path() / "devcluster"
        return cls((folder / "go.mod").read_text(), (folder / "go.sum").read_text())

    @property
    def version(self) -> str:
        """The Kubernetes version, such as `v1.36.3`.

        Raises:
            HarnessError: go.mod has no line for k8s.io/kubernetes.
        """
        found = re.search(r"^\s*(?:require\s+)?k8s\.io/kubernetes (v\d+\.\d+\.\d+)\b", self.go_mod, re.MULTILINE)
        if found is None:
            raise HarnessError("manifests/devcluster/go.mod requires no k8s.io/kubernetes: restore it from the repository")
        return found.group(1)

    @property
    def key(self) -> str:
        """The name of the cache folder: the same inputs give the same programs."""
        parts = (str(RECIPE), platform.system(), platform.machine(), self.go_mod, self.go_sum)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    @property
    def link_flags(self) -> str:
        """Without a version, the server says v0.0.0-master, and kubectl and feature gates misbehave."""
        major, minor, _ = self.version.removeprefix("v").split(".")
        package = "k8s.io/component-base/version"
        values = {"gitVersion": self.version, "gitMajor": major, "gitMinor": minor}
        return " ".join(["-s -w", *(f"-X {package}.{name}={value}" for name, value in values.items())])


def cache_path(pins: Pins) -> Path:
    """Where the programs of these pins are kept."""
    return folders.cache_folder() / "devcluster" / pins.key


def provide(progress: Progress | None = None) -> Programs:
    """Find the programs, or build them; several callers at once are safe and build once.

    Args:
        progress: told what happens, for a person who waits; D stderr.

    Raises:
        ToolMissing: they must be built and there is no Go.
        ProgramFailed: the build failed; carries the tail of its log.
        HarnessError: KUBEBUILDER_ASSETS names a folder that lacks some.
    """
    pins = Pins.read()
    found = _from_assets() or _from_cache(pins) or _from_path(pins)
    return found or _build(pins, progress or for_this_terminal())


def _from_assets() -> Programs | None:
    value = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not value:
        return None
    folder = Path(value)
    missing = [name for name in PROGRAMS if not _is_program(folder / name)]
    if missing:
        raise HarnessError(f"KUBEBUILDER_ASSETS is {value!r}: it lacks {', '.join(missing)}; add them or unset the variable")
    return Programs(folder, None)


def _from_cache(pins: Pins) -> Programs | None:
    home = cache_path(pins)
    # Renamed into place whole, so the folder's presence says enough.
    return Programs(home / "bin", home / "stage-crd.yaml") if home.is_dir() else None


def _from_path(pins: Pins) -> Programs | None:
    found = [shutil.which(name) for name in PROGRAMS]
    parents = {Path(path).parent for path in found if path is not None}
    if None in found or len(parents) != 1:
        return None
    folder = parents.pop()
    asked = ((APISERVER, ["--version"]), (KUBECTL, ["version", "--client"]))
    if all(_says(folder / name, arguments, pins.version) for name, arguments in asked):
        return Programs(folder, None)
    return None


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _says(program: Path, arguments: list[str], version: str) -> bool:
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    answer = subprocess.run(
        [program, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=VERSION_SECONDS,
    )
    return answer.returncode == 0 and version in answer.stdout.split()


def _build(pins: Pins, progress: Progress) -> Programs:
    home = cache_path(pins)
    log = home.with_name(f"{home.name}.log")
    waiting = f"another process is building the cluster's programs: waiting for it; its log is {log}"
    with folders.locked(home.with_name(f"{home.name}.lock"), on_wait=lambda: progress.say(waiting)):
        # Somebody else may have built while we waited for the lock.
        programs = _from_cache(pins)
        if programs is not None:
            return programs
        for interrupted in home.parent.glob(f"{home.name}.building-*"):
            # One that an orphaned compiler still writes to is left for the next time.
            shutil.rmtree(interrupted, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{home.name}.building-", dir=home.parent))
        _build_into(temporary, pins, log, progress)
        temporary.rename(home)
    progress.say(f"built: {home / 'bin'}")
    return Programs(home / "bin", home / "stage-crd.yaml")


def _build_into(folder: Path, pins: Pins, log: Path, progress: Progress) -> None:
    go = toolchain.find()
    module, binaries = folder / "module", folder / "bin"
    # A copy: an installed package may be read-only, and go locks go.mod.
    module.mkdir()
    binaries.mkdir()
    (module / "go.mod").write_text(pins.go_mod)
    (module / "go.sum").write_text(pins.go_sum)
    environment = dict(go.environment) | {"GOBIN": str(binaries)}
    progress.say(
        f"building Kubernetes {pins.version}, etcd and kwok with {go.program}: once, 5 to 10 minutes on two cores, "
        f"a minute where Go's own cache is warm; log in {log}"
    )
    with log.open("w", buffering=1) as output, progress:
        _compile(
            [str(go.program), "install", "-v", "-trimpath", "-ldflags", pins.link_flags, "tool"],
            module,
            environment,
            output,
            progress,
        )
    asked = [str(go.program), "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"]
    kwok = subprocess.run(
        asked, cwd=module, env=environment, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
    )
    if kwok.returncode != 0:
        raise ProgramFailed(f"`{' '.join(asked)}` failed: {kwok.stderr.strip()}")
    # etcd's main package sits in a folder called `server`.
    (binaries / "server").rename(binaries / ETCD)
    shutil.copyfile(Path(kwok.stdout.strip()) / STAGE_CRD, folder / "stage-crd.yaml")
    missing = [name for name in PROGRAMS if not _is_program(binaries / name)]
    if missing:
        raise ProgramFailed(f"the build made no {', '.join(missing)}; the end of {log}:\n{processes.tail(log)}")
    processes.remove_tree(module)


def _compile(argv: Sequence[str], module: Path, environment: Mapping[str, str], log: TextIO, progress: Progress) -> None:
    with subprocess.Popen(
        argv, cwd=module, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as go:
        # Reading a pipe has no deadline of its own.
        watchdog = threading.Timer(BUILD_SECONDS, go.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            count = 0
            for line in go.stdout or ():
                log.write(line)
                count += not line.startswith("go: ")
                progress.step(f"{count} packages compiled, now {line.strip()}")
        finally:
            watchdog.cancel()
    if go.returncode != 0:
        log.flush()
        raise ProgramFailed(
            f"the build ended with status {go.returncode}; the end of {log.name}:\n{processes.tail(Path(log.name))}"
        )
