"""One pass over a cluster: Secret and configuration are brought a step further, or found in order.

The configuration is read before the Secret, and each write names the resourceVersion that was read. So whatever another
pass does in between, either our write fails with a conflict and we look again, or what we know of the Secret is at least as
new as what the configuration was made from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from aiqueue.admission.backoff import Backoff
from aiqueue.admission.certificates import material, rotation
from aiqueue.admission.certificates.material import Material
from aiqueue.admission.kube import errors, trust
from aiqueue.admission.kube.client import KubeClient
from aiqueue.queue.errors import AiqueueError, NotFound

#: Steps of one pass: nothing takes more than nine, the rest is for others' passes in between.
MOST_STEPS = 24
#: Attempts of one pass that end in a conflict or with no answer.
MOST_FAILURES = 6
LONGEST_PAUSE_SECONDS = 5.0
INJECTED_BY_CERT_MANAGER = ("cert-manager.io/inject-ca-from", "cert-manager.io/inject-ca-from-secret")


class NotInOrder(AiqueueError):
    """The pass came to its bound: somebody else writes the same objects."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the certificate is kept and who is told whom to believe.

    Attributes:
        namespace: of the Secret and the Service.
        certificate: name of the Secret.
        configuration: name of the ValidatingWebhookConfiguration.
        service: name of the Service that the configuration names.
    """

    namespace: str = "aiqueue-system"
    certificate: str = "aiqueue-webhook-certificate"
    configuration: str = "aiqueue"
    service: str = "aiqueue-webhook"

    def hosts(self) -> tuple[str, ...]:
        """The host names of the webhook's Service; the API server uses the first."""
        name = f"{self.service}.{self.namespace}.svc"
        return (name, f"{name}.cluster.local")


def keep(
    client: KubeClient,
    place: Place,
    hosts: Sequence[str] | None = None,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    settle: timedelta = material.SETTLE,
    rng: Random | None = None,
) -> tuple[Material, tuple[str, ...]]:
    """Do whatever is due now.

    Args:
        client: with the rights to get and patch the Secret and the configuration.
        place: their names.
        hosts: of the serving certificate; D those of the place.
        clock: aware time.
        settle: how long a change takes to reach every kubelet and every API server.
        rng: spreads attempts.

    Returns:
        What the Secret holds, and what was done and why, in sentences; none where nothing was due.

    Raises:
        NotFound: the Secret or the configuration does not exist.
        KubeError: the API server refused, or did not answer for a while.
        NotInOrder: somebody else goes on writing the same objects.
    """
    said: list[str] = []
    backoff = Backoff(rng or Random(), longest_seconds=LONGEST_PAUSE_SECONDS)
    for _ in range(MOST_STEPS):
        try:
            held, step = _step(client, place, hosts or place.hosts(), clock(), settle)
        except (errors.Conflict, errors.Unavailable, errors.TooManyRequests) as error:
            if backoff.failures >= MOST_FAILURES:
                raise
            time.sleep(backoff.failed(at_least_seconds=error.retry_after_seconds or 0.0))
            continue
        if step is None:
            return held, tuple(dict.fromkeys(said))
        said.extend(step.sentences)
    raise NotInOrder(
        f"Secret {place.namespace}/{place.certificate} and ValidatingWebhookConfiguration {place.configuration} were not in order"
        f" after {MOST_STEPS} steps: see in their managedFields who else writes them"
    )


def _step(
    client: KubeClient, place: Place, hosts: Sequence[str], now: datetime, settle: timedelta
) -> tuple[Material, rotation.Store | rotation.Announce | None]:
    try:
        configuration = trust.get_configuration(client, place.configuration)
        secret = trust.get_secret(client, place.namespace, place.certificate)
    except errors.NotFound as error:
        raise NotFound(f"{error}: apply the manifests, which have both, then try again") from error
    other = next((each for each in INJECTED_BY_CERT_MANAGER if each in (configuration.metadata.annotations or {})), None)
    if other is not None:
        raise NotInOrder(
            f"ValidatingWebhookConfiguration {place.configuration} has the annotation {other}, so cert-manager writes its caBundle:"
            " remove the annotation, or do not run this command"
        )
    held = Material.of(secret.data or {})
    step = rotation.next_step(held, configuration.bundles, hosts, now, settle=settle)
    if isinstance(step, rotation.Store):
        trust.put_data(client, place.namespace, secret, step.material.data())
        return step.material, step
    if isinstance(step, rotation.Announce):
        trust.put_bundle(client, configuration, step.bundle)
    return held or Material(), step
