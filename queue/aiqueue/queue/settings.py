"""Settings of every process, from `AIQUEUE_` environment variables. Built once at the entry point and passed down."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What a process may be told. Durations in seconds.

    Attributes:
        database_url: the ledger, `postgresql://user@host:port/database`.
        repair_database_url: the ledger, with the login of the controller, for `aiqueue doctor --repair`; database_url when empty.
        kubeconfig: how to reach the cluster; the service account of the pod when empty.
        cluster_name: the name of that cluster in the ledger.
        lease_seconds: how long a term lasts without renewal; a standby takes over after it.
        stuck_seconds: a controller ends itself when one of its threads stands in one step for this long.
        unreachable_seconds: a leader that has not reached the API server for this long gives its term up. A standby does not try for
            the term after a third of it.
        health_address: `host:port` where the controller answers /healthz and /readyz; empty for none.
        start_connections: Jobs that are started at once.
        act_threads: other requests in flight at once that change Jobs.
        max_admissions_per_plan: bound of one Plan.
        unknown_jobs_per_minute: running Jobs that nobody admitted and that are suspended at most, before everything stops.
        usage_check_seconds: how often the usage of the engine is compared with that of the ledger.
        archive_after_seconds: terminal workloads stay this long in the hot table.
        webhook_address: `host:port` where the webhook answers the API server over TLS.
        webhook_certificate_folder: holds `tls.crt` and `tls.key`, read again when their content changes.
        webhook_drain_seconds: after SIGTERM the webhook is not ready, and still answers, for this long.
        webhook_share_port: several webhooks of one machine may listen on one port; the kernel shares out connections.
        faults: `point=kill|stop|raise|hang|delay` list for tests of recovery; empty in production.
    """

    model_config = SettingsConfigDict(env_prefix="AIQUEUE_", env_nested_delimiter="__", frozen=True, extra="ignore")

    database_url: SecretStr = SecretStr("")
    repair_database_url: SecretStr = SecretStr("")
    kubeconfig: Path | None = None
    cluster_name: str = Field(default="default", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    lease_seconds: float = Field(default=4.0, ge=1, le=60)
    stuck_seconds: float = Field(default=120, ge=1, le=3600)
    unreachable_seconds: float = Field(default=30, ge=1, le=3600)
    health_address: str = ""
    start_connections: int = Field(default=32, ge=1, le=256)
    act_threads: int = Field(default=8, ge=1, le=64)
    max_admissions_per_plan: int = Field(default=500, ge=1, le=10_000)
    unknown_jobs_per_minute: int = Field(default=10, ge=0, le=1000)
    usage_check_seconds: float = Field(default=600, ge=1)
    archive_after_seconds: float = Field(default=3600, ge=0)
    webhook_address: str = "127.0.0.1:8443"
    webhook_certificate_folder: Path | None = None
    webhook_drain_seconds: float = Field(default=5.0, ge=0, le=120)
    webhook_share_port: bool = False
    faults: str = ""
