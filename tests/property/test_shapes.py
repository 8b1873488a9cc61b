"""A shape is stored in the ledger, so its name may never change for the same pods and class."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from aiqueue.queue.records import NodeRequirement, PodSet, Toleration, shape_of

tolerations = st.builds(Toleration, st.text(), st.text(), st.text(), st.text(), st.none() | st.integers())
requirements = st.builds(NodeRequirement, st.text(), st.text(), st.lists(st.text()).map(tuple))
pod_sets = st.builds(
    PodSet,
    st.text(),
    st.integers(),
    st.dictionaries(st.text(), st.integers()),
    st.none() | st.integers(),
    st.dictionaries(st.text(), st.text()),
    st.lists(tolerations, max_size=3).map(tuple),
    st.lists(st.lists(requirements, max_size=3).map(tuple), max_size=3).map(tuple),
)


@given(st.lists(pod_sets, max_size=3), st.none() | st.text())
def test_a_shape_is_the_hash_of_the_canonical_text_of_all_fields(sets: list[PodSet], class_name: str | None) -> None:
    canonical = json.dumps([class_name, [asdict(each) for each in sets]], sort_keys=True, separators=(",", ":"))
    assert shape_of(sets, class_name) == hashlib.blake2b(canonical.encode(), digest_size=20).hexdigest()


def test_a_shape_keeps_its_name() -> None:
    assert (
        shape_of([PodSet("main", 2, {"cpu": 1000, "nvidia.com/gpu": 8})], "normal")
        == "290961d698d7251a66f56d9be56a34c5a730d9fa"
    )


def test_nobody_finds_two_that_share_a_shape() -> None:
    """Who did would have a large Job admitted as a small one. Finding two takes the square root of what there are."""
    assert 16 ** (len(shape_of([PodSet("main", 1, {})], None)) / 2) >= 2**80
