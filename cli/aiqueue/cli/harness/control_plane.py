"""The command lines of a cluster's programs: pure, so that each flag has one place and a reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiqueue.cli.harness import build
from aiqueue.cli.harness.build import Programs
from aiqueue.cli.harness.certificates import Pair
from aiqueue.cli.harness.ports import LOOPBACK

#: Fixed, so that a Job stored by one start is served alike by the next.
SERVICE_RANGE = "10.0.0.0/24"
ISSUER = "https://kubernetes.default.svc"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a cluster listens, all on loopback."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    scheduler: int
    kwok: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a cluster."""

    folder: Path
    ca_file: Path
    serving: Pair
    #: `certificate` is the public key.
    token_keys: Pair
    audit_policy: Path
    audit_log: Path

    def kubeconfig(self, program: str) -> Path:
        """The kubeconfig of one of our programs."""
        return self.folder / "kubeconfigs" / program


def etcd(programs: Programs, layout: Layout, ports: Ports, *, durable: bool) -> list[str]:
    """The store. `durable` keeps fsync; without it a power cut, not a crash, loses data."""
    client, peer = f"http://{LOOPBACK}:{ports.etcd}", f"http://{LOOPBACK}:{ports.etcd_peer}"
    argv = [
        str(programs.path(build.ETCD)),
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        # Names the member in a data folder; a changed peer port is not a changed member.
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
        # The keyspace of a long benchmark would otherwise fill the default quota of 2 GB.
        "--quota-backend-bytes=8589934592",
    ]
    return argv if durable else [*argv, "--unsafe-no-fsync"]


def apiserver(
    programs: Programs, layout: Layout, ports: Ports, *, bare: bool, audit: bool, emulated: str | None = None
) -> list[str]:
    """The API server. `bare`: no controllers will run, so nothing may wait for what they make."""
    argv = [
        str(programs.path(build.APISERVER)),
        f"--etcd-servers=http://{LOOPBACK}:{ports.etcd}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={ports.apiserver}",
        f"--tls-cert-file={layout.serving.certificate}",
        f"--tls-private-key-file={layout.serving.key}",
        f"--client-ca-file={layout.ca_file}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={layout.token_keys.certificate}",
        f"--service-account-signing-key-file={layout.token_keys.key}",
        "--authorization-mode=RBAC",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        # The addresses of nodes are not real: nothing may be sent there by way of the Service `kubernetes`.
        "--endpoint-reconciler-type=none",
        "--max-requests-inflight=3000",
        "--max-mutating-requests-inflight=1000",
        "--shutdown-delay-duration=0s",
        "--profiling=false",
    ]
    if bare:
        # Pods would wait for a service account that only the controller manager makes.
        argv.append("--disable-admission-plugins=ServiceAccount")
    if emulated is not None:
        argv.append(f"--emulated-version={emulated}")
    if audit:
        argv += [
            f"--audit-policy-file={layout.audit_policy}",
            f"--audit-log-path={layout.audit_log}",
            "--audit-log-maxsize=500",
            "--audit-log-maxbackup=2",
        ]
    return argv


def controller_manager(
    programs: Programs, layout: Layout, ports: Ports, *, fast: bool, emulated: str | None = None
) -> list[str]:
    """The controllers of Jobs, nodes, garbage and the rest, each under its own service account."""
    argv = [
        str(programs.path(build.CONTROLLER_MANAGER)),
        f"--kubeconfig={layout.kubeconfig(build.CONTROLLER_MANAGER)}",
        *_serving(layout, ports.controller_manager),
        f"--root-ca-file={layout.ca_file}",
        f"--service-account-private-key-file={layout.token_keys.key}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--concurrent-job-syncs=20",
        "--profiling=false",
    ]
    if emulated is not None:
        argv.append(f"--emulated-version={emulated}")
    if fast:
        argv += ["--node-monitor-period=1s", "--concurrent-gc-syncs=10", "--concurrent-namespace-syncs=5"]
    return argv


def scheduler(programs: Programs, layout: Layout, ports: Ports) -> list[str]:
    """The scheduler of pods."""
    return [
        str(programs.path(build.SCHEDULER)),
        f"--kubeconfig={layout.kubeconfig(build.SCHEDULER)}",
        *_serving(layout, ports.scheduler),
        "--leader-elect=false",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--profiling=false",
    ]


def kwok(programs: Programs, layout: Layout, ports: Ports, stages: Path | None) -> list[str]:
    """The stand-in for kubelets. `stages`: a file of Stage objects, where the cluster has no such kind."""
    source = "--enable-crds=Stage" if stages is None else f"--config={stages}"
    return [
        str(programs.path(build.KWOK)),
        f"--kubeconfig={layout.kubeconfig(build.KWOK)}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--server-address={LOOPBACK}:{ports.kwok}",
        "--node-lease-duration-seconds=40",
        source,
    ]


def _serving(layout: Layout, port: int) -> list[str]:
    return [
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--tls-cert-file={layout.serving.certificate}",
        f"--tls-private-key-file={layout.serving.key}",
    ]
