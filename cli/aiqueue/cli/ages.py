"""Durations for people, as kubectl prints them."""

from __future__ import annotations

from datetime import datetime

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def human(seconds: float) -> str:
    """Two units at most, the smaller only where it matters: `90s`, `5m10s`, `2h`, `3h20m`, `4d6h`, `30d`, `3y40d`."""
    whole = int(seconds)
    if whole < 0:
        return "0s"
    for below, large, large_unit, small, small_unit in (
        (2 * _MINUTE, 1, "s", 0, ""),
        (10 * _MINUTE, _MINUTE, "m", 1, "s"),
        (3 * _HOUR, _MINUTE, "m", 0, ""),
        (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
        (2 * _DAY, _HOUR, "h", 0, ""),
        (8 * _DAY, _DAY, "d", _HOUR, "h"),
        (2 * _YEAR, _DAY, "d", 0, ""),
        (8 * _YEAR, _YEAR, "y", _DAY, "d"),
    ):
        if whole < below:
            rest = whole % large // small if small else 0
            return f"{whole // large}{large_unit}" + (f"{rest}{small_unit}" if rest else "")
    return f"{whole // _YEAR}y"


def age(since: datetime | None, now: datetime) -> str:
    """How long ago `since` was; empty if never."""
    return "" if since is None else human((now - since).total_seconds())
