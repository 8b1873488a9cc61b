"""Statements that are executed all the time."""

from __future__ import annotations

from functools import lru_cache

import sqlalchemy
from sqlalchemy import TextClause


@lru_cache(maxsize=512)
def text(sql: str) -> TextClause:
    """As SQLAlchemy's `text`, made once: looking for parameters and making its key takes longer than many a short statement.

    `sql` is one of a fixed number of texts; what varies is a parameter.
    """
    return sqlalchemy.text(sql)
