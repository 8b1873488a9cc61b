"""docs/doctor.md tells of each difference that there is, and of who mends it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aiqueue.admission.doctor.bookkeeping import OVERDUE_AFTER
from aiqueue.admission.doctor.differences import Mend
from aiqueue.admission.doctor.examining import PAUSE_SECONDS
from aiqueue.admission.doctor.kinds import Kind
from aiqueue.admission.doctor.term import LEASE_SECONDS
from fix_doctor import DAMAGES, found, look_at

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
#: Who mends each difference, as the page says.
WHO = dict(re.findall(r"^\| ([A-Z][A-Za-z]+) \| .* \| (--repair|a controller|a person) \|$", PAGE, re.MULTILINE))
#: What no damage to one Job brings about, and is safe to mend.
SAFE_WITHOUT_JOB = {Kind.RATE_DIFFERS}


def test_every_difference_is_explained_in_its_order() -> None:
    assert list(WHO) == [str(kind) for kind in Kind]


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_who_mends_it_is_said(kind: Kind) -> None:
    looks = [found(look_at(damage.change(damage.of(100)))) for damage in DAMAGES if damage.kind is kind]
    mends = {each.mend for told in looks for each in told}
    if kind in SAFE_WITHOUT_JOB or mends - {None, Mend.LEAD_ANEW, Mend.SET_STATE}:
        assert WHO[kind] == "--repair"
    elif Mend.LEAD_ANEW in mends:
        assert WHO[kind] == "a controller"
    else:
        assert WHO[kind] == ("--repair" if Mend.SET_STATE in mends else "a person")


def test_its_figures_are_those_of_the_program() -> None:
    assert f"`--pause` ({PAUSE_SECONDS:g} s)" in PAGE
    assert f"runs out within {LEASE_SECONDS:g} s" in PAGE
    assert OVERDUE_AFTER.total_seconds() == 600
    assert "more than ten minutes ago" in PAGE
