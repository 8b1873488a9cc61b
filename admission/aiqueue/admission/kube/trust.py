"""The two objects that make the API server believe the webhook: a Secret, and the caBundle of a webhook configuration."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import quote

from aiqueue.admission.kube.client import JSON_PATCH, KubeClient
from aiqueue.admission.kube.objects import Object

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


class Metadata(Object, frozen=True):
    """Metadata of either."""

    name: str
    resource_version: str
    annotations: dict[str, str] | None = None


class Secret(Object, frozen=True):
    """A Secret. Its values do not show when it is printed."""

    metadata: Metadata
    data: dict[str, bytes] | None = None

    def __repr__(self) -> str:
        return f"Secret(metadata={self.metadata!r}, data of {sorted(self.data or ())})"


class ClientConfig(Object, frozen=True):
    """How the API server reaches a webhook: only whom it believes."""

    ca_bundle: bytes = b""


class Webhook(Object, frozen=True):
    """One webhook of a configuration."""

    name: str
    client_config: ClientConfig = ClientConfig()


class WebhookConfiguration(Object, frozen=True):
    """A ValidatingWebhookConfiguration."""

    metadata: Metadata
    webhooks: tuple[Webhook, ...] | None = None

    @property
    def bundles(self) -> tuple[bytes, ...]:
        """The caBundle of each webhook, empty where it has none."""
        return tuple(each.client_config.ca_bundle for each in self.webhooks or ())


def get_secret(client: KubeClient, namespace: str, name: str) -> Secret:
    """The Secret as it is now.

    Raises:
        KubeError: `NotFound` where there is none of this name.
    """
    return client.read(_secret_path(namespace, name), Secret, f"get of Secret {namespace}/{name}")


def put_data(client: KubeClient, namespace: str, held: Secret, data: Mapping[str, bytes]) -> Secret:
    """Write these values into a Secret, which must be as it was read; values of other names stay.

    Raises:
        KubeError: `Conflict` where it is no longer as it was read.
    """
    body = {
        "metadata": {"resourceVersion": held.metadata.resource_version},
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }
    path = _secret_path(namespace, held.metadata.name)
    return client.patch(path, body, Secret, f"patch of Secret {namespace}/{held.metadata.name}")


def get_configuration(client: KubeClient, name: str) -> WebhookConfiguration:
    """The ValidatingWebhookConfiguration as it is now.

    Raises:
        KubeError: `NotFound` where there is none of this name.
    """
    doing = f"get of ValidatingWebhookConfiguration {name}"
    return client.read(_configuration_path(name), WebhookConfiguration, doing)


def put_bundle(client: KubeClient, held: WebhookConfiguration, bundle: bytes) -> WebhookConfiguration:
    """Write this caBundle into every webhook of a configuration, which must be as it was read.

    Raises:
        KubeError: `Conflict` where it is no longer as it was read.
    """
    name, text = held.metadata.name, base64.b64encode(bundle).decode()
    # A JSON patch: a merge patch would replace the list of webhooks whole. A resourceVersion that is not the object's
    # is a conflict here too.
    body: list[dict[str, str]] = [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": held.metadata.resource_version},
        *(
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": text}
            for index in range(len(held.webhooks or ()))
        ),
    ]
    doing = f"patch of ValidatingWebhookConfiguration {name}"
    return client.patch(_configuration_path(name), body, WebhookConfiguration, doing, content_type=JSON_PATCH)


def _secret_path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets/{quote(name, safe='')}"


def _configuration_path(name: str) -> str:
    return f"{CONFIGURATIONS}/{quote(name, safe='')}"
