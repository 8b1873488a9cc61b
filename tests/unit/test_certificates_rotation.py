"""What is written next, Secret or configuration: the order in which nothing is served that is not believed."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from aiqueue.admission.certificates import material
from aiqueue.admission.certificates.material import Material
from aiqueue.admission.certificates.rotation import Announce, Store, next_step
from fix_certificates import HOSTS, HOUR, NOW, authorities, settled, signed_by

DUE = NOW + material.AUTHORITY_FOR - material.AUTHORITY_RENEWED_BEFORE


@pytest.fixture(scope="module")
def before() -> Material:
    """In order, an hour before a new authority is due."""
    return settled(settled(None, NOW), DUE - HOUR)


def steps(held: Material | None, bundle: bytes, now: datetime) -> tuple[list[str], Material, bytes]:
    """A pass: what was written, and how Secret and configuration are then."""
    written: list[str] = []
    for _ in range(20):
        step = next_step(held, (bundle,), HOSTS, now)
        if step is None:
            assert held is not None
            return written, held, bundle
        if isinstance(step, Store):
            changed = {name for name, value in step.material.data().items() if held is None or held.data()[name] != value}
            written.append("+".join(sorted(changed)))
            held = step.material
        else:
            written.append("bundle")
            bundle = step.bundle
    raise AssertionError(written)


def test_from_nothing_the_key_is_stored_first_and_the_certificate_last() -> None:
    written, held, bundle = steps(None, b"", NOW)
    assert written[1:] == ["bundle", "ca.published", "tls.crt+tls.key"]
    assert bundle == held.bundle


def test_a_new_authority_is_stored_then_published_then_dated(before: Material) -> None:
    written, held, bundle = steps(before, before.bundle, DUE)
    assert written == ["ca.crt+ca.key+ca.published", "bundle", "ca.published"]
    assert (held.published, held.certificate, bundle) == (DUE, before.certificate, held.bundle)


def test_the_old_authority_leaves_the_secret_then_the_configuration(before: Material) -> None:
    _, held, bundle = steps(before, before.bundle, DUE)
    written, held, bundle = steps(held, bundle, DUE + HOUR)
    assert written == ["ca.key+tls.crt+tls.key"]
    written, held, bundle = steps(held, bundle, DUE + 2 * HOUR)
    assert written == ["ca.crt", "bundle"]
    assert bundle == held.bundle
    assert len(authorities(held)) == 1


def test_a_configuration_that_somebody_set_back_is_published_before_the_new_authority_signs(before: Material) -> None:
    _, held, _ = steps(before, before.bundle, DUE)
    later = DUE + HOUR
    written, held, bundle = steps(held, before.bundle, later)
    assert written == ["ca.published", "bundle", "ca.published"]
    assert (held.published, bundle) == (later, held.bundle)
    assert signed_by(held, 1)
    assert steps(held, bundle, later + HOUR - timedelta(seconds=1))[0] == []
    assert signed_by(steps(held, bundle, later + HOUR)[1], 0)


def test_every_webhook_of_a_configuration_counts(before: Material) -> None:
    step = next_step(replace(before, published=None), (before.bundle, b""), HOSTS, DUE - HOUR)
    assert isinstance(step, Announce)
    assert step.bundle == before.bundle
    assert isinstance(next_step(before, (before.bundle, b""), HOSTS, DUE - HOUR), Store)
    assert next_step(before, (before.bundle, before.bundle), HOSTS, DUE - HOUR) is None
    assert next_step(before, (), HOSTS, DUE - HOUR) is None
