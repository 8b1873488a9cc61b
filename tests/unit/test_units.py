"""Quantities and durations: exact, bounded, and as Kubernetes reads them."""

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils import quantity

from aiqueue.queue.errors import InvalidQuantity
from aiqueue.queue.units import (
    MAX_AMOUNT,
    MAX_DURATION_SECONDS,
    base_units_per_unit,
    format_amount,
    format_duration,
    is_bytes,
    parse_amount,
    parse_duration,
)

# The official client has no types.
official_reading: Callable[[str], Decimal] = cast("Any", quantity).parse_quantity
SUFFIXES = ("", "n", "u", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti")
RESOURCES = ("cpu", "memory", "nvidia.com/gpu", "hugepages-2Mi")


@pytest.mark.parametrize(
    ("resource", "text", "amount"),
    [
        ("cpu", "500m", 500),
        ("cpu", "2", 2000),
        ("cpu", 2, 2000),
        ("cpu", 0.1, 100),
        ("cpu", "1e3", 1_000_000),
        ("cpu", "0.0001", 1),
        ("memory", "64Gi", 64 * 1024**3),
        ("memory", "1.5Ki", 1536),
        ("memory", "128M", 128_000_000),
        ("memory", "1E", 10**18),
        ("memory", "12E-1", 2),
        ("nvidia.com/gpu", "+8", 8),
        ("nvidia.com/gpu", ".5", 1),
        ("nvidia.com/gpu", "5.", 5),
        ("nvidia.com/gpu", str(MAX_AMOUNT), MAX_AMOUNT),
    ],
)
def test_requests_round_up(resource: str, text: object, amount: int) -> None:
    assert parse_amount(resource, text) == amount


def test_capacity_rounds_down() -> None:
    assert parse_amount("nvidia.com/gpu", "7.9", round_up=False) == 7
    assert parse_amount("cpu", "1.0009", round_up=False) == 1000


@pytest.mark.parametrize(
    "value",
    [
        "",
        " 1",
        "1 ",
        "NaN",
        "inf",
        "1_000",
        "1KI",
        "1ki",
        "e3",
        ".",
        "+",
        "--1",
        "1e",
        "1e3Ki",
        "٣",
        "1" * 65,
        True,
        None,
        [],
        "-1",
        "-1m",
    ],
)
def test_what_is_no_amount_is_refused(value: object) -> None:
    with pytest.raises(InvalidQuantity) as caught:
        parse_amount("nvidia.com/gpu", value, field="spec.nominal")
    assert str(caught.value).startswith("spec.nominal is ")


@pytest.mark.parametrize("value", [MAX_AMOUNT + 1, "10E", "1e999"])
def test_an_amount_past_bigint_is_refused(value: object) -> None:
    with pytest.raises(InvalidQuantity, match="at most"):
        parse_amount("memory", value)


@given(
    whole=st.integers(0, 10**6),
    part=st.one_of(st.none(), st.integers(0, 10**6)),
    suffix=st.sampled_from(SUFFIXES),
    resource=st.sampled_from(RESOURCES),
    round_up=st.booleans(),
)
def test_agrees_with_the_official_client(whole: int, part: int | None, suffix: str, resource: str, round_up: bool) -> None:
    text = f"{whole}{'' if part is None else f'.{part}'}{suffix}"
    with localcontext() as context:
        context.prec = 60
        official = official_reading(text) * base_units_per_unit(resource)
        expected = int(official.to_integral_value(rounding=ROUND_CEILING if round_up else ROUND_FLOOR))
    if expected > MAX_AMOUNT:
        with pytest.raises(InvalidQuantity, match="at most"):
            parse_amount(resource, text, round_up=round_up)
    else:
        assert parse_amount(resource, text, round_up=round_up) == expected


@given(st.sampled_from(RESOURCES), st.integers(0, MAX_AMOUNT))
def test_an_amount_is_read_back(resource: str, amount: int) -> None:
    assert parse_amount(resource, format_amount(resource, amount)) == amount


@pytest.mark.parametrize(
    ("resource", "amount", "text"),
    [("cpu", 1500, "1500m"), ("cpu", 2000, "2"), ("memory", 3 * 1024**3, "3Gi"), ("memory", 1000, "1000"), ("pods", 7, "7")],
)
def test_amounts_are_written_as_people_do(resource: str, amount: int, text: str) -> None:
    assert format_amount(resource, amount) == text


def test_which_resources_are_bytes() -> None:
    assert is_bytes("memory")
    assert is_bytes("hugepages-1Gi")
    assert not is_bytes("nvidia.com/gpu")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("7d", 604800), ("0s", 0), ("1d1s", 86401)]
)
def test_durations_are_seconds(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["", "10", 10, "1.5h", "30m1h", "-1s", "1w", "s", None, "36501d", "9" * 33 + "s"])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(InvalidQuantity, match=r"spec\.bound is "):
        parse_duration(value, field="spec.bound")


@given(st.integers(0, MAX_DURATION_SECONDS))
def test_a_duration_is_read_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
