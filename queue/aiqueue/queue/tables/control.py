"""Identity of the ledger, leadership, clusters, plans, configuration revision and audit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Integer, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column

from aiqueue.queue.tables.base import Base, Id, Instant, Name, Recorded, one_of
from aiqueue.queue.words import AuditVerb


class LedgerRow(Base):
    """Who this ledger is: `uid` is written on every Job it starts."""

    __tablename__ = "ledger"
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, server_default=text("1"), autoincrement=False)
    uid: Mapped[str] = mapped_column(UUID(as_uuid=False), server_default=text("gen_random_uuid()"))
    created_at: Mapped[Recorded]
    __table_args__ = (CheckConstraint("id = 1", name="only_row"),)


class ConfigRevisionRow(Base):
    """Counts configuration writes; each takes the row lock, so revisions are in commit order."""

    __tablename__ = "config_revision"
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, server_default=text("1"), autoincrement=False)
    revision: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (CheckConstraint("id = 1", name="only_row"),)


class LeaderRow(Base):
    """The current term. A controller's write locks the row of its own term FOR SHARE; a take-over changes it."""

    __tablename__ = "leader"
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, server_default=text("1"), autoincrement=False)
    term: Mapped[int] = mapped_column(BigInteger)
    holder: Mapped[Name]
    elected_at: Mapped[Recorded]
    __table_args__ = (CheckConstraint("id = 1", name="only_row"),)


class LeaderLeaseRow(Base):
    """Until when the term lasts unless renewed. Apart from `leader`, so that renewals never wait for ledger writes."""

    __tablename__ = "leader_lease"
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, server_default=text("1"), autoincrement=False)
    term: Mapped[int] = mapped_column(BigInteger)
    renewed_at: Mapped[Instant]
    expires_at: Mapped[Instant]
    __table_args__ = (CheckConstraint("id = 1", name="only_row"),)


class LeaderBackendRow(Base):
    """A database session that writes for a term: a take-over ends them before it raises the term."""

    __tablename__ = "leader_backend"
    term: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    pid: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    backend_start: Mapped[Instant] = mapped_column(primary_key=True)


class ClusterRow(Base):
    """A Kubernetes cluster, known by the UID of its kube-system namespace."""

    __tablename__ = "cluster"
    id: Mapped[Id]
    name: Mapped[Name] = mapped_column(unique=True)
    kube_system_uid: Mapped[Name] = mapped_column(unique=True)
    registered_at: Mapped[Recorded]


class PlanRow(Base):
    """A Plan that was committed: looked up when the outcome of a COMMIT is unknown. Old rows are deleted in batches."""

    __tablename__ = "plan"
    term: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    config_revision: Mapped[int] = mapped_column(BigInteger)
    admissions: Mapped[int] = mapped_column(Integer)
    evictions: Mapped[int] = mapped_column(Integer)
    decided_at: Mapped[Instant]
    committed_at: Mapped[Recorded]


class AuditRow(Base):
    """Append-only: who changed what, before and after. `session_role` and `login` are the database's word, `claimed_by` a claim."""

    __tablename__ = "audit"
    id: Mapped[Id]
    at: Mapped[Recorded]
    login: Mapped[Name] = mapped_column(server_default=text("session_user"))
    session_role: Mapped[Name] = mapped_column(server_default=text("current_user"))
    claimed_by: Mapped[str | None] = mapped_column(Text)
    verb: Mapped[Name]
    kind: Mapped[Name]
    name: Mapped[Name]
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    __table_args__ = (one_of("verb", AuditVerb),)
