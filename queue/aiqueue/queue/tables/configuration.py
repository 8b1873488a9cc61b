"""What an administrator writes: flavors, classes, the tenant tree with its quotas, queues."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, SmallInteger, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from aiqueue.queue.tables.base import Amount, Base, Id, Json, JsonList, Name, Recorded, not_negative, one_of
from aiqueue.queue.words import Fungibility, ObjectState, Queueing, Reclaim, WithinTenant


class FlavorRow(Base):
    """One kind of capacity."""

    __tablename__ = "flavor"
    id: Mapped[Id]
    name: Mapped[Name] = mapped_column(unique=True)
    node_labels: Mapped[Json]
    node_taints: Mapped[JsonList]
    tolerations: Mapped[JsonList]
    topology_levels: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[Recorded]


class ClassRow(Base):
    """Priority and preemption contract. Durations are seconds, NULL is no limit."""

    __tablename__ = "class"
    id: Mapped[Id]
    name: Mapped[Name] = mapped_column(unique=True)
    priority: Mapped[int]
    preemptible: Mapped[bool]
    min_runtime_seconds: Mapped[Amount]
    grace_period_seconds: Mapped[Amount]
    max_runtime_seconds: Mapped[Amount | None] = mapped_column(BigInteger)
    max_total_runtime_seconds: Mapped[Amount | None] = mapped_column(BigInteger)
    ready_timeout_seconds: Mapped[Amount]
    recovery_timeout_seconds: Mapped[Amount]
    requeue_limit: Mapped[int]
    created_at: Mapped[Recorded]
    __table_args__ = (
        *not_negative(
            "min_runtime_seconds",
            "grace_period_seconds",
            "max_runtime_seconds",
            "max_total_runtime_seconds",
            "ready_timeout_seconds",
            "recovery_timeout_seconds",
            "requeue_limit",
        ),
    )


class TenantRow(Base):
    """A node of the tenant tree. Weights are exact: thousandths."""

    __tablename__ = "tenant"
    id: Mapped[Id]
    name: Mapped[Name] = mapped_column(unique=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("tenant.id"), index=True)
    weight_thousandths: Mapped[Amount]
    queueing: Mapped[Name]
    order: Mapped[list[str]] = mapped_column(ARRAY(Text))
    when_can_borrow: Mapped[Name]
    when_can_preempt: Mapped[Name]
    within_tenant: Mapped[Name]
    reclaim: Mapped[Name]
    state: Mapped[Name]
    starvation_bound_seconds: Mapped[Amount]
    usage_half_life_seconds: Mapped[Amount]
    usage_weights_thousandths: Mapped[Json]
    created_at: Mapped[Recorded]
    __table_args__ = (
        one_of("queueing", Queueing),
        one_of("when_can_borrow", Fungibility),
        one_of("when_can_preempt", Fungibility),
        one_of("within_tenant", WithinTenant),
        one_of("reclaim", Reclaim),
        one_of("state", ObjectState),
        CheckConstraint("parent_id <> id", name="not_its_own_parent"),
        CheckConstraint('"order"[array_upper("order", 1)] = \'submitted\'', name="order_ends_in_submitted"),
        *not_negative("weight_thousandths", "starvation_bound_seconds", "usage_half_life_seconds"),
    )


class QuotaRow(Base):
    """What a tenant has of one resource of one flavor, in the administrator's order. NULL is no limit."""

    __tablename__ = "quota"
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"), primary_key=True)
    flavor_id: Mapped[int] = mapped_column(ForeignKey("flavor.id"), primary_key=True, index=True)
    resource: Mapped[Name] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger)
    nominal: Mapped[Amount]
    borrowing_limit: Mapped[Amount | None] = mapped_column(BigInteger)
    lending_limit: Mapped[Amount | None] = mapped_column(BigInteger)
    __table_args__ = (
        UniqueConstraint("tenant_id", "position"),
        *not_negative("nominal", "borrowing_limit", "lending_limit"),
    )


class QueueRow(Base):
    """A namespaced door to one leaf tenant. `allows_all_classes` false means the classes in `queue_class` only."""

    __tablename__ = "queue"
    id: Mapped[Id]
    namespace: Mapped[Name]
    name: Mapped[Name]
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenant.id"), index=True)
    weight_thousandths: Mapped[Amount]
    default_class_id: Mapped[int | None] = mapped_column(ForeignKey("class.id"), index=True)
    allows_all_classes: Mapped[bool] = mapped_column(server_default=text("true"))
    state: Mapped[Name]
    created_at: Mapped[Recorded]
    __table_args__ = (
        UniqueConstraint("namespace", "name"),
        one_of("state", ObjectState),
        *not_negative("weight_thousandths"),
    )


class QueueClassRow(Base):
    """A class that a queue allows."""

    __tablename__ = "queue_class"
    queue_id: Mapped[int] = mapped_column(ForeignKey("queue.id", ondelete="CASCADE"), primary_key=True)
    class_id: Mapped[int] = mapped_column(ForeignKey("class.id"), primary_key=True, index=True)
    position: Mapped[int] = mapped_column(SmallInteger)
