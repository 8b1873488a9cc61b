"""What `aiqueue dev` runs: a cluster, a Postgres server and further programs, all outliving the command.

A throwaway one, for a demo or a test, ends with the process that started it, and keeps nothing.

Whoever wants more at the end of `aiqueue dev up` (the ledger migrated, manifests applied, the controller started)
adds a function to `after_up`. Each is called at every `up`, so it must be content to find its work done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from aiqueue.cli.harness import build, folders, postgres, processes, state
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.postgres import DevPostgres
from aiqueue.cli.harness.processes import Supervisor
from aiqueue.cli.harness.state import Record

DATABASE = "aiqueue"
AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class ProgramStatus:
    """A line of `aiqueue dev status`."""

    name: str
    #: None if it does not run.
    pid: int | None
    log: Path


class DevEnvironment:
    """The environment of one folder.

    Args:
        folder: everything of it; D a folder of the user's state.
        throwaway: it ends with this process, even if that is killed, and does not wait for the disk.

    Attributes:
        folder: of the environment.
        cluster: its Kubernetes.
        postgres: its server; `DATABASE` on it is the ledger's.
    """

    def __init__(self, folder: Path | None = None, *, throwaway: bool = False) -> None:
        default = folders.state_folder() / "dev"
        self.folder = (folder or default).resolve()
        self.cluster = DevCluster.create(self.folder / "cluster", name="dev", fast=throwaway, owned=throwaway)
        # The data of the environment that everybody gets belongs with the user's data, not with passing state.
        home = self.folder if self.folder != default.resolve() else folders.data_folder()
        self.postgres = DevPostgres.create(home / "postgres", durable=not throwaway, owned=throwaway)
        self._throwaway = throwaway
        self._services = Supervisor(self.services_folder, owned=throwaway)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.cluster.kubeconfig

    @property
    def services_folder(self) -> Path:
        """What further programs keep: their state, logs and settings; removed by a purge."""
        return self.folder / "services"

    @property
    def database_url(self) -> str:
        """The ledger's database, as the server's superuser; holds a password."""
        return self.postgres.url(DATABASE)

    @property
    def binaries(self) -> Path:
        """The folder with kubectl."""
        return build.provide().folder

    def is_running(self) -> bool:
        """Whether the cluster and the server run and answer."""
        return self.postgres.is_running() and self.cluster.is_running()

    def up(self) -> bool:
        """Start what does not run, then call `after_up`; return whether all of it ran already.

        Raises:
            HarnessError: something could not be started; what runs is left running.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with folders.locked(self.folder / folders.LOCK):
            already = self.is_running()
            # Neither needs the other, and each waits for programs most of the time.
            with ThreadPoolExecutor(max_workers=1) as beside:
                ledger = beside.submit(self._start_postgres)
                self.cluster.start()
                ledger.result()
            if self._throwaway and not self._services.owns():
                self._services.begin()
            for each in after_up:
                each(self)
        return already

    def _start_postgres(self) -> None:
        self.postgres.start()
        if not self.postgres.has_database(DATABASE):
            self.postgres.create_database(DATABASE)

    def down(self, *, purge: bool = False) -> None:
        """Stop everything; `purge` also removes all data, certificates and logs."""
        if self.folder.exists():
            with folders.locked(self.folder / folders.LOCK):
                self._services.finish()
                self.cluster.stop()
        self.postgres.stop()
        if purge:
            self.postgres.purge()
            for folder in (self.cluster.folder, self._services.folder):
                processes.remove_tree(folder)

    def start_service(self, name: str, argv: Sequence[str | Path], environment: Mapping[str, str]) -> Record:
        """Start a further program in the background, unless one of this name runs.

        Call it from `after_up`: the environment's lock is held then.

        Args:
            name: for `status` and `logs`.
            argv: program and arguments, for example `[sys.executable, "-m", "aiqueue.cli.main", "controller"]`.
            environment: its variables, besides PATH and HOME.

        Raises:
            HarnessError: a part of the environment has this name.
            ProgramFailed: it ended before it began.
        """
        if name in (*self.cluster.programs, postgres.PROGRAM, AUDIT):
            raise HarnessError(f"the service name {name!r} is taken by a part of the environment: choose another")
        found = self._services.find(name)
        if found is not None:
            return found
        base = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(Path.home())}
        return self._services.start(name, argv, environment={**base, **environment})

    def find_service(self, name: str) -> Record | None:
        """The further program of this name, if it runs."""
        return self._services.find(name)

    def stop_service(self, name: str) -> None:
        """End a further program, if it runs."""
        self._services.stop(name)

    def require_service(self, record: Record) -> None:
        """Raise with the tail of its log if a further program has ended.

        Raises:
            ProgramFailed: it has.
        """
        self._services.require_alive(record)

    def status(self) -> list[ProgramStatus]:
        """Every program of the environment, running or not."""
        known = [
            (name, self.cluster.folder, record) for name, record in self._known(self.cluster.folder, self.cluster.programs)
        ]
        known += [
            (name, self.postgres.folder, record) for name, record in self._known(self.postgres.folder, (postgres.PROGRAM,))
        ]
        services = [each.name for each in state.load(self._services.folder).programs]
        known += [(name, self._services.folder, record) for name, record in self._known(self._services.folder, services)]
        return [
            ProgramStatus(
                name,
                record.identity.pid if record is not None and processes.is_alive(record.identity) else None,
                folder / "logs" / f"{name}.log",
            )
            for name, folder, record in known
        ]

    def log(self, name: str) -> Path:
        """The log of a program, or `audit` for the API server's audit log.

        Raises:
            HarnessError: there is no such program, or it never ran.
        """
        logs = {each.name: each.log for each in self.status()} | {AUDIT: self.cluster.audit_log}
        if name not in logs:
            raise HarnessError(f"there is no program {name!r}: choose one of {', '.join(logs)}")
        if not logs[name].exists():
            raise HarnessError(f"{name} has not written {logs[name]}: start the environment with `aiqueue dev up`")
        return logs[name]

    @staticmethod
    def _known(folder: Path, names: Sequence[str]) -> list[tuple[str, Record | None]]:
        records = {each.name: each for each in state.load(folder).programs}
        return [(name, records.get(name)) for name in names]


#: Called in order at the end of every `up`.
after_up: list[Callable[[DevEnvironment], None]] = []
