"""A Postgres server on loopback, from the programs in a wheel.

The server's password is generated once and kept in its folder, readable by the owner only; every connection,
by socket or TCP, must give it. As root the data is under /var/lib/aiqueue, since the server runs as `nobody`.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from aiqueue.cli.harness import databases, folders, ports, postgres_programs, processes, state
from aiqueue.cli.harness.errors import HarnessError, ProgramFailed
from aiqueue.cli.harness.postgres_programs import Installation
from aiqueue.cli.harness.processes import Supervisor
from aiqueue.cli.harness.state import Record
from aiqueue.cli.harness.waiting import pause, until

PROGRAM = "postgres"
SUPERUSER = "postgres"
#: Kept for the server's own use; ours are made by `create_database`.
MAINTENANCE_DATABASE = "postgres"
READY_SECONDS = 60.0
INITDB_SECONDS = 120.0
START_ATTEMPTS = 6
#: Worth another attempt: a port taken since it was chosen; the children of a killed server not gone yet.
PASSING_FAILURES = ("could not bind", "pre-existing shared memory block")
INITDB_OPTIONS = ("--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-instructions")
#: The status line of postmaster.pid, which the server rewrites as it goes.
READY_STATUS = "ready"
SETTINGS = {
    "listen_addresses": ports.LOOPBACK,
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
}
#: For data that nobody will miss: a crash of the machine loses it, one of the server what was committed in the last moment before it.
THROWAWAY_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class DevPostgres:
    """One server in one folder. Make it with `create`.

    Attributes:
        folder: password, log and state file; the data too, unless we are root.
        data: the server's data folder.
    """

    def __init__(self, folder: Path, *, durable: bool, owned: bool) -> None:
        self.folder = folder
        self._durable = durable
        key = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        self._home = postgres_programs.ROOT_DATA / key if os.geteuid() == 0 else folder
        self.data = self._home / "data"
        # A socket's path has room for about 100 bytes, which a temporary folder may use up.
        self._sockets = (
            self._home / "socket" if os.geteuid() == 0 else Path(tempfile.gettempdir()) / f"aiqueue-{os.geteuid()}-{key}"
        )
        scratch = self._home if self._home != folder and not durable else None
        self._supervisor = Supervisor(folder, owned=owned, scratch=scratch)
        self._owned = owned

    @classmethod
    def create(cls, folder: Path, *, durable: bool, owned: bool | None = None) -> DevPostgres:
        """Describe a server; nothing is started yet.

        Args:
            folder: its folder, made if need be.
            durable: keep data safely and over a stop. Otherwise the server does not wait for the disk, and its data is
                removed when it stops.
            owned: it is to end with this process, even if that is killed; D unless durable.
        """
        return cls(folder.resolve(), durable=durable, owned=not durable if owned is None else owned)

    def __enter__(self) -> DevPostgres:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Where it listens on loopback.

        Raises:
            HarnessError: it never ran.
        """
        found = state.load(self.folder).ports.get(PROGRAM)
        if found is None:
            raise HarnessError(f"the server in {self.folder} never ran: start it first")
        return found

    def url(self, database: str, user: str | None = None, password: str | None = None) -> str:
        """The URL of a database: of the superuser, or of a login made by `create_login`."""
        name, word = (SUPERUSER, self._password()) if user is None else (user, password or "")
        return f"postgresql+psycopg://{quote(name, safe='')}:{quote(word, safe='')}@{ports.LOOPBACK}:{self.port}/{quote(database, safe='')}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database that carries the mark; return its URL. See `databases.create`."""
        databases.create(self.url(MAINTENANCE_DATABASE), name, template)
        return self.url(name)

    def has_database(self, name: str) -> bool:
        """Whether there is a database of this name."""
        return databases.exists(self.url(MAINTENANCE_DATABASE), name)

    def create_login(self, name: str, password: str, in_roles: Sequence[str] = ()) -> None:
        """Create a login with these memberships, or change the one there is."""
        databases.create_login(self.url(MAINTENANCE_DATABASE), name, password, in_roles)

    def is_running(self) -> bool:
        """Whether the server runs and takes connections."""
        return self._supervisor.find(PROGRAM) is not None and self._is_ready()

    def running(self) -> list[Record]:
        """Its programs that run."""
        return self._supervisor.running()

    def start(self) -> DevPostgres:
        """Start the server and wait until it takes connections; one that runs already is left as it is.

        Raises:
            ProgramFailed: it ended or was not ready in time; carries the tail of its log.
            ToolMissing: its programs are not installed.
            HarnessError: another living process owns the folder.
        """
        installation = postgres_programs.find()
        processes.sweep()
        self.folder.mkdir(parents=True, exist_ok=True)
        with folders.locked(self.folder / folders.LOCK):
            if (not self._owned or self._supervisor.owns()) and self.is_running():
                return self
            self._supervisor.begin()
            try:
                self._bring_up(installation)
            except BaseException:
                self._end()
                raise
        return self

    def stop(self) -> None:
        """End the server; data that is not durable goes with it. Does nothing if none runs."""
        if not self.folder.exists():
            return
        with folders.locked(self.folder / folders.LOCK):
            self._end()

    def purge(self) -> None:
        """Stop, and remove all it ever kept."""
        self.stop()
        processes.remove_tree(self._home)
        processes.remove_tree(self.folder)

    def _end(self) -> None:
        self._supervisor.finish()
        processes.remove_tree(self._sockets)
        if not self._durable:
            processes.remove_tree(self.data)
            if self._home != self.folder:
                processes.remove_tree(self._home)

    def _bring_up(self, installation: Installation) -> None:
        self._own(self._home, installation, mode=0o755 if self._home == self.folder else 0o711)
        self._own(self._sockets, installation, mode=0o700)
        if not (self.data / "PG_VERSION").exists():
            self._initialise(installation)
        for attempt in range(1, START_ATTEMPTS + 1):
            known = state.load(self.folder)
            preferred = [known.ports[PROGRAM]] if PROGRAM in known.ports and attempt == 1 else []
            (port,) = ports.choose(1, preferred)
            state.save(self.folder, replace(known, ports={PROGRAM: port}))
            try:
                self._launch(installation, port)
            except ProgramFailed as error:
                if attempt == START_ATTEMPTS or not any(text in str(error) for text in PASSING_FAILURES):
                    raise
                pause(attempt)
            else:
                return

    def _launch(self, installation: Installation, port: int) -> None:
        settings = SETTINGS | ({} if self._durable else THROWAWAY_SETTINGS)
        settings |= {"port": str(port), "unix_socket_directories": str(self._sockets)}
        argv: list[str | Path] = [
            installation.binaries / "postgres",
            "-D",
            self.data,
            *(f"--{name}={value}" for name, value in settings.items()),
        ]
        # SIGINT is the "fast" shutdown: sessions are cut, data is written out.
        record = self._supervisor.start(
            PROGRAM,
            argv,
            environment=self._environment(),
            working_folder=self.data,
            user=installation.user,
            stop_signal=signal.SIGINT,
        )

        def ready() -> bool:
            self._supervisor.require_alive(record)
            return self._is_ready()

        try:
            until(ready, seconds=READY_SECONDS, what="readiness of Postgres", longest_pause_seconds=0.05)
        except ProgramFailed:
            self._supervisor.stop(PROGRAM)
            raise
        except HarnessError as error:
            raise ProgramFailed(f"{error}; the end of {record.log}:\n{processes.tail(Path(record.log))}") from error

    def _is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        if len(lines) < 8 or lines[7].strip() != READY_STATUS:
            return False
        try:
            with socket.create_connection((ports.LOOPBACK, self.port), timeout=1.0):
                return True
        except OSError:
            return False

    def _initialise(self, installation: Installation) -> None:
        # What an interrupted initdb left is of no use.
        processes.remove_tree(self.data)
        password_file = self._home / "initial-password"
        folders.write_private(password_file, self._password() + "\n")
        self._own(password_file, installation, mode=0o600)
        building = self._home / "data-initialising"
        processes.remove_tree(building)
        argv = [
            installation.binaries / "initdb",
            "-D",
            building,
            "-U",
            SUPERUSER,
            f"--pwfile={password_file}",
            *INITDB_OPTIONS,
            *([] if self._durable else ["--no-sync"]),
        ]
        user = installation.user
        try:
            done = subprocess.run(
                [str(word) for word in argv],
                env=self._environment(),
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=INITDB_SECONDS,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
        finally:
            password_file.unlink()
        if done.returncode != 0:
            raise ProgramFailed(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
        building.rename(self.data)

    def _password(self) -> str:
        path = self.folder / "password"
        if not path.exists():
            # A password without its data, or data without its password, is of no use.
            if (self.data / "PG_VERSION").exists():
                raise HarnessError(f"{path} is gone, and the data in {self.data} with it: remove that folder to begin anew")
            folders.write_private(path, secrets.token_urlsafe(24) + "\n")
        return path.read_text().strip()

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "HOME": str(self._home), "LC_ALL": "C", "TZ": "UTC"}

    @staticmethod
    def _own(path: Path, installation: Installation, *, mode: int) -> None:
        """Make a folder (or take a file) of ours and give it to the server's account."""
        if not path.is_file():
            path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        if installation.user is not None:
            os.chown(path, installation.user.uid, installation.user.gid)
