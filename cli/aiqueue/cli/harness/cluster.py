"""A Kubernetes cluster of real programs on loopback: etcd, API server, controllers, scheduler, fake nodes.

Everything of a cluster is in its folder: data, certificates, logs, kubeconfigs and the state file. A cluster that
was created `owned` ends with the process that started it, at the latest when the next one starts.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from aiqueue.cli import resources
from aiqueue.cli.harness import build, control_plane, folders, kubeconfig, kwok, marks, ports, processes, state
from aiqueue.cli.harness.api import Api
from aiqueue.cli.harness.build import Programs
from aiqueue.cli.harness.certificates import Authority, Pair, token_keys
from aiqueue.cli.harness.control_plane import Layout, Ports
from aiqueue.cli.harness.errors import HarnessError, ProgramFailed
from aiqueue.cli.harness.processes import Supervisor
from aiqueue.cli.harness.state import Record
from aiqueue.cli.harness.waiting import pause, until

READY_SECONDS = 90.0
NODE_READY_SECONDS = 60.0
KUBECTL_SECONDS = 120.0
#: A chosen port may be taken before the program binds it.
START_ATTEMPTS = 4
ADMIN = "aiqueue-dev:admin"
#: The user of each of our programs, as the server's built-in roles know them.
SYSTEM_USERS = {
    build.CONTROLLER_MANAGER: "system:kube-controller-manager",
    build.SCHEDULER: "system:kube-scheduler",
    build.KWOK: kwok.USER,
}
#: Clients first, so that none of them spends its end retrying a server that is gone.
STOP_ORDER = (build.KWOK, build.SCHEDULER, build.CONTROLLER_MANAGER, build.APISERVER, build.ETCD)
TOKEN_SECONDS = 86_400
#: How many cores a Go program uses at once, and how far its memory grows before it looks for what is free.
THRIFT = ("GOMAXPROCS", "GOGC", "GOMEMLIMIT")


class DevCluster:
    """One cluster in one folder. Make it with `create`.

    Attributes:
        folder: everything of the cluster.
        kubeconfig: the administrator's (`system:masters`).
        audit_log: JSON lines, one per request of interest; an entry may trail its answer by a moment.
        ca_file: the authority that signed the server's certificate.
    """

    def __init__(
        self, folder: Path, *, name: str, fast: bool, bare: bool, owned: bool, audit: bool, emulated: str | None
    ) -> None:
        self.folder = folder
        self.name = name
        self.kubeconfig = folder / "kubeconfig"
        self.audit_log = folder / "logs" / "audit.jsonl"
        self.ca_file = folder / "pki" / "ca.crt"
        self._fast = fast
        self._bare = bare
        self._owned = owned
        self._audit = audit
        self._emulated = emulated
        self._supervisor = Supervisor(folder, owned=owned)
        self._found: Programs | None = None
        self._api: tuple[int, Api] | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        name: str = "dev",
        fast: bool = True,
        bare: bool = False,
        owned: bool = True,
        audit: bool | None = None,
        emulated: str | None = None,
    ) -> DevCluster:
        """Describe a cluster; nothing is started yet.

        Args:
            folder: its folder, made if need be. Data found there is used again.
            name: shown in errors and file names.
            fast: etcd does not wait for the disk, and controllers look more often: for tests, not for data.
            bare: etcd and the API server only; Jobs are stored and nothing acts on them.
            owned: it is to end with this process, even if that is killed.
            audit: keep an audit log; D unless bare.
            emulated: an older minor version, such as "1.33", whose APIs and behaviour the servers are to have. They refuse one
                more than three minor versions older than themselves.
        """
        audited = not bare if audit is None else audit
        return cls(folder.resolve(), name=name, fast=fast, bare=bare, owned=owned, audit=audited, emulated=emulated)

    @classmethod
    def of_kubeconfig(cls, path: Path) -> DevCluster:
        """The running cluster whose administrator's kubeconfig this is.

        Raises:
            HarnessError: it was not made by this harness on this machine, or does not run.
        """
        found = cls.create(path.resolve().parent, owned=False)
        if found.kubeconfig != path.resolve() or not (found.folder / state.STATE_FILE).exists():
            raise HarnessError(
                f"{path} is not the kubeconfig of a cluster of `aiqueue dev up`: tests need its logs and certificates too"
            )
        if not found.is_running():
            raise HarnessError(f"the cluster of {path} does not run: start it with `aiqueue dev up`")
        return found

    def __enter__(self) -> DevCluster:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs of this cluster, in the order in which they start."""
        return (build.ETCD, build.APISERVER) if self._bare else tuple(reversed(STOP_ORDER))

    @property
    def server(self) -> str:
        """The address of the API server, `https://127.0.0.1:port`.

        Raises:
            HarnessError: the cluster never ran.
        """
        return f"https://{ports.LOOPBACK}:{self._port(build.APISERVER)}"

    @property
    def api(self) -> Api:
        """A client with the administrator's rights."""
        port = self._port(build.APISERVER)
        if self._api is None or self._api[0] != port:
            pki = self.folder / "pki"
            self._api = port, Api(port, self.ca_file, Pair(pki / "admin.crt", pki / "admin.key"))
        return self._api[1]

    def is_running(self) -> bool:
        """Whether all of its programs run and the API server says it is ready."""
        running = {each.name for each in self._supervisor.running()}
        return running.issuperset(self.programs) and self.api.is_ok("/readyz")

    def running(self) -> list[Record]:
        """Its programs that run."""
        return self._supervisor.running()

    def start(self) -> DevCluster:
        """Start the cluster and wait until it is ready; one that runs already is left as it is.

        Raises:
            ProgramFailed: a program ended or was not ready in time; carries the tail of its log.
            ToolMissing: the programs must be built first and cannot be.
            HarnessError: another living process owns the folder.
        """
        programs = self._find_programs()
        processes.sweep()
        self.folder.mkdir(parents=True, exist_ok=True)
        with folders.locked(self.folder / folders.LOCK):
            if (not self._owned or self._supervisor.owns()) and self.is_running():
                return self
            self._supervisor.begin()
            try:
                self._bring_up(programs)
            except BaseException:
                self._supervisor.finish()
                raise
        return self

    def stop(self) -> None:
        """End its programs; data, certificates and logs stay. Does nothing if none runs."""
        if not self.folder.exists():
            return
        with folders.locked(self.folder / folders.LOCK):
            for name in STOP_ORDER:
                self._supervisor.stop(name)
            self._supervisor.finish()

    def _find_programs(self) -> Programs:
        if self._found is None:
            self._found = build.provide()
        return self._found

    def _bring_up(self, programs: Programs) -> None:
        authority = Authority.open(self.folder / "pki")
        self._api = None  # it would go on with the certificates of the last start
        layout = self._layout(authority)
        admin = authority.client("admin", ADMIN, ("system:masters",))
        for attempt in range(1, START_ATTEMPTS + 1):
            chosen = self._choose_ports(again=attempt > 1)
            try:
                self._start_server(programs, layout, chosen)
                kubeconfig.write(self.kubeconfig, server=self.server, ca_file=self.ca_file, user=ADMIN, client=admin)
                if not self._bare:
                    self._start_clients(programs, layout, authority, chosen)
            except ProgramFailed as error:
                self._supervisor.end_all()
                if "address already in use" not in str(error) or attempt == START_ATTEMPTS:
                    raise
                pause(attempt)
            else:
                self.api.apply(marks.CONFIG_MAP_PATH, marks.config_map())
                return

    def _layout(self, authority: Authority) -> Layout:
        (self.folder / "kubeconfigs").mkdir(exist_ok=True)
        return Layout(
            folder=self.folder,
            ca_file=authority.file,
            serving=authority.serving("serving", ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")),
            token_keys=token_keys(authority.folder),
            audit_policy=resources.manifests_path() / "devcluster" / "audit-policy.yaml",
            audit_log=self.audit_log,
        )

    def _choose_ports(self, *, again: bool) -> Ports:
        names = tuple(Ports.__dataclass_fields__)
        known = state.load(self.folder)
        preferred = [] if again else [known.ports[name] for name in names if name in known.ports]
        chosen = dict(zip(names, ports.choose(len(names), preferred), strict=True))
        state.save(self.folder, state.State(owner=known.owner, programs=known.programs, ports=chosen))
        return Ports(**chosen)

    def _port(self, program: str) -> int:
        name = {build.APISERVER: "apiserver", build.ETCD: "etcd"}[program]
        found = state.load(self.folder).ports.get(name)
        if found is None:
            raise HarnessError(f"the cluster in {self.folder} never ran: start it first")
        return found

    def _environment(self) -> Mapping[str, str]:
        # Neither KUBECONFIG nor proxies of the caller's shell reach our programs, only what they may use up.
        thrift = {name: os.environ[name] for name in THRIFT if name in os.environ}
        return {"PATH": os.defpath, "HOME": str(self.folder), "LC_ALL": "C", "TZ": "UTC", **thrift}

    def _launch(self, argv: Sequence[str]) -> Record:
        return self._supervisor.start(Path(argv[0]).name, argv, environment=self._environment())

    def _start_server(self, programs: Programs, layout: Layout, chosen: Ports) -> None:
        started = [
            self._launch(control_plane.etcd(programs, layout, chosen, durable=not self._fast)),
            # It retries until etcd answers.
            self._launch(
                control_plane.apiserver(programs, layout, chosen, bare=self._bare, audit=self._audit, emulated=self._emulated)
            ),
        ]
        # The server makes its namespaces a moment after it says that it is ready.
        asked = ("/readyz", "/api/v1/namespaces/default", f"/api/v1/namespaces/{marks.NAMESPACE}")
        api = self.api
        self._await(started, lambda: all(api.is_ok(path) for path in asked))

    def _start_clients(self, programs: Programs, layout: Layout, authority: Authority, chosen: Ports) -> None:
        for program, user in SYSTEM_USERS.items():
            pair = authority.client(program, user)
            kubeconfig.write(layout.kubeconfig(program), server=self.server, ca_file=self.ca_file, user=user, client=pair)
        started = [
            self._launch(control_plane.controller_manager(programs, layout, chosen, fast=self._fast, emulated=self._emulated)),
            self._launch(control_plane.scheduler(programs, layout, chosen)),
        ]
        api = self.api
        kwok.grant(api)
        if programs.stage_crd is not None:
            kwok.install_stages(api, programs.stage_crd)
            stages = None
        else:
            stages = kwok.write_stages(self.folder / "stages.yaml")
        started.append(self._launch(control_plane.kwok(programs, layout, chosen, stages)))
        admin = Pair(self.folder / "pki" / "admin.crt", self.folder / "pki" / "admin.key")
        clients = [Api(port, self.ca_file, admin) for port in (chosen.controller_manager, chosen.scheduler)]
        self._await(
            started,
            # Pods can be created once the default namespace has its service account; that controllers made it says they work.
            lambda: (
                all(each.is_ok("/healthz") for each in clients)
                and api.is_ok("/api/v1/namespaces/default/serviceaccounts/default")
            ),
        )

    def _await(self, started: Sequence[Record], ready: Callable[[], bool]) -> None:
        def probe() -> bool:
            for record in started:
                self._supervisor.require_alive(record)
            return ready()

        try:
            until(probe, seconds=READY_SECONDS, what=f"readiness of the cluster {self.name}", longest_pause_seconds=0.1)
        except ProgramFailed:
            raise
        except HarnessError as error:
            tails = "\n".join(f"--- {record.log}\n{processes.tail(Path(record.log), 8)}" for record in started)
            raise ProgramFailed(f"{error}; the ends of its logs:\n{tails}") from error

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig_file: Path | None = None) -> str:
        """Run kubectl of the cluster's own version, and return what it printed.

        Args:
            arguments: as on a command line.
            stdin: for `-f -`.
            kubeconfig_file: D the administrator's.

        Raises:
            HarnessError: it failed; carries what it said.
        """
        argv: list[str | Path] = [
            build.provide().path(build.KUBECTL),
            f"--kubeconfig={kubeconfig_file or self.kubeconfig}",
            *arguments,
        ]
        done: subprocess.CompletedProcess[str] = subprocess.run(
            argv,
            env=self._environment(),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=KUBECTL_SECONDS,
        )
        if done.returncode != 0:
            raise HarnessError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def add_node(
        self,
        name: str,
        cpu_millicores: int,
        memory_bytes: int,
        gpus: int = 0,
        labels: Mapping[str, str] | None = None,
        *,
        pods: int = 110,
        wait: bool = True,
    ) -> None:
        """Add a fake node.

        Args:
            name: its name.
            cpu_millicores: allocatable CPU.
            memory_bytes: allocatable memory.
            gpus: allocatable `nvidia.com/gpu`.
            labels: besides `kubernetes.io/hostname`, `os` and `arch`.
            pods: how many pods fit.
            wait: return only when it is Ready and free of the taint of new nodes.

        Raises:
            HarnessError: the server refused it, or it was not Ready in time.
        """
        api = self.api
        new = kwok.node(
            name, cpu_millicores=cpu_millicores, memory_bytes=memory_bytes, gpus=gpus, pods=pods, labels=labels or {}
        )
        api.call("POST", "/api/v1/nodes", new)
        if wait:
            until(
                lambda: kwok.is_ready(api.call("GET", f"/api/v1/nodes/{name}")),
                seconds=NODE_READY_SECONDS,
                what=f"readiness of node {name}",
            )

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Make a kubeconfig with a fresh token (24 hours) of an existing service account.

        Raises:
            HarnessError: there is no such service account.
        """
        path = f"/api/v1/namespaces/{quote(namespace)}/serviceaccounts/{quote(name)}/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": TOKEN_SECONDS}}
        token = str(self.api.call("POST", path, asked)["status"]["token"])
        user = f"system:serviceaccount:{namespace}:{name}"
        return kubeconfig.write(
            self._new_kubeconfig(f"{namespace}-{name}"), server=self.server, ca_file=self.ca_file, user=user, token=token
        )

    def user_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Make a kubeconfig with a client certificate of this user; what it may do is up to RBAC."""
        path = self._new_kubeconfig("user")
        pair = Authority.open(self.folder / "pki").client(path.name, user, groups)
        return kubeconfig.write(path, server=self.server, ca_file=self.ca_file, user=user, client=pair)

    def _new_kubeconfig(self, stem: str) -> Path:
        return self.folder / "kubeconfigs" / f"{stem}-{secrets.token_hex(4)}"
