"""Quantities of Kubernetes and durations, as exact integers.

Base units: `cpu` in millicores, every other resource in its own unit (bytes for memory, ephemeral-storage and hugepages,
a count for the rest). Requests round up, capacity rounds down. The grammar is that of
`k8s.io/apimachinery/pkg/api/resource.Quantity`: a signed decimal number, then a binary suffix (Ki .. Ei), a decimal
suffix (n, u, m, none, k .. E) or an exponent (e3, E-3).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from aiqueue.queue.errors import InvalidQuantity

MAX_AMOUNT = 2**63 - 1

_QUANTITY = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]*))?(?:(?P<exponent>[eE][+-]?[0-9]{1,3})|(?P<suffix>[KMGTPE]i|[numkMGTPE])?)",
    re.ASCII,
)
_MULTIPLIER: dict[str, Fraction] = {
    **{suffix: Fraction(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
    **{
        suffix: Fraction(1000) ** power
        for power, suffix in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), start=-3)
    },
}
_DURATION = re.compile(r"(?:(?P<d>[0-9]+)d)?(?:(?P<h>[0-9]+)h)?(?:(?P<m>[0-9]+)m)?(?:(?P<s>[0-9]+)s)?", re.ASCII)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
MAX_DURATION_SECONDS = 100 * 365 * 86400


def base_units_per_unit(resource: str) -> int:
    """Base units in one unit of the resource as people write it: 1000 for cpu, 1 for the rest."""
    return 1000 if resource == "cpu" else 1


@lru_cache(maxsize=8192)
def _parse(text: str, scale: int, round_up: bool) -> int:
    match = _QUANTITY.fullmatch(text) if len(text) <= 64 else None
    if match is None or not (match["whole"] or match["part"]):
        raise ValueError(text)
    number = Fraction(int((match["whole"] or "") + (match["part"] or "")), 10 ** len(match["part"] or ""))
    multiplier = Fraction(10) ** int(match["exponent"][1:]) if match["exponent"] else _MULTIPLIER[match["suffix"] or ""]
    exact = number * multiplier * scale * (-1 if match["sign"] == "-" else 1)
    if exact < 0:
        return -1  # not rounded up to a zero that nobody wrote
    return -(-exact.numerator // exact.denominator) if round_up else exact.numerator // exact.denominator


def parse_amount(resource: str, value: object, *, round_up: bool = True, field: str = "quantity") -> int:
    """Read a Kubernetes quantity as an amount of `resource` in base units.

    Args:
        resource: name of the resource, which decides the base unit.
        value: a quantity as YAML or JSON gives it: text or a number.
        round_up: True for requests, False for capacity.
        field: where the value stands, for the error.

    Raises:
        InvalidQuantity: it does not follow the grammar, is negative, or exceeds 2**63 - 1 base units.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InvalidQuantity(field, value, 'write a quantity such as 8, "500m" or "64Gi"')
    try:
        amount = _parse(str(value), base_units_per_unit(resource), round_up)
    except ValueError:
        raise InvalidQuantity(field, value, 'write a quantity such as 8, "500m" or "64Gi"') from None
    if amount < 0:
        raise InvalidQuantity(field, value, "write an amount of zero or more")
    if amount > MAX_AMOUNT:
        raise InvalidQuantity(field, value, f"write at most {MAX_AMOUNT} base units of {resource}")
    return amount


def format_amount(resource: str, amount: int) -> str:
    """Write an amount as Kubernetes would: `1500m` or `2` for cpu, the largest exact binary suffix for bytes."""
    if resource == "cpu":
        return str(amount // 1000) if amount % 1000 == 0 else f"{amount}m"
    if is_bytes(resource) and amount:
        for power, suffix in ((6, "Ei"), (5, "Pi"), (4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
            if amount % 1024**power == 0:
                return f"{amount // 1024**power}{suffix}"
    return str(amount)


def is_bytes(resource: str) -> bool:
    """Whether the resource is counted in bytes."""
    return resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-")


def parse_duration(value: object, *, field: str = "duration") -> int:
    """Read a duration such as `90s`, `10m`, `1h30m` or `7d` as seconds.

    Raises:
        InvalidQuantity: it does not follow the grammar or exceeds 100 years.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) and 0 < len(value) <= 32 else None
    if match is None:
        raise InvalidQuantity(field, value, 'write a duration in whole seconds such as "90s", "10m", "1h30m" or "7d"')
    seconds = sum(int(count) * _SECONDS[unit] for unit, count in match.groupdict().items() if count)
    if seconds > MAX_DURATION_SECONDS:
        raise InvalidQuantity(field, value, "write at most 100 years")
    return seconds


def format_duration(seconds: int) -> str:
    """Write seconds the way `parse_duration` reads them, largest units first: `1h30m`, `0s`."""
    parts: list[str] = []
    for unit, size in _SECONDS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
