"""Declarative base, naming convention and column types shared by all tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

from aiqueue.queue.words import quoted

Id = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
Amount = Annotated[int, mapped_column(BigInteger)]
Name = Annotated[str, mapped_column(Text)]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
JsonList = Annotated[list[Any], mapped_column(JSONB)]
Instant = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Recorded = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())]


class Base(DeclarativeBase):
    """Every table of the ledger."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def one_of(column: str, words: Iterable[str]) -> CheckConstraint:
    """CHECK that a text column holds a word of a closed list."""
    return CheckConstraint(f"{column} IN ({quoted(words)})", name=f"{column}_known")


def not_negative(*columns: str) -> list[CheckConstraint]:
    """CHECK each column against negative amounts."""
    return [CheckConstraint(f"{column} >= 0", name=f"{column}_not_negative") for column in columns]
