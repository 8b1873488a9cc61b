"""`aiqueue certificates`: issue and rotate the webhook's certificate, in a folder or in a cluster."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiqueue.cli.exits import EPILOG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiqueue.admission.certificates.material import Material
    from aiqueue.admission.kube.client import KubeClient
    from aiqueue.queue.settings import Settings

app = typer.Typer(help="Issue the webhook's certificate and rotate it while requests go on.", no_args_is_help=True)


class Output(StrEnum):
    """Formats of what was done."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Sentences, or one JSON object.")]


@app.command(epilog=EPILOG)
def folder(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="Gets ca.crt, ca.key, tls.crt and tls.key.")],
    host: Annotated[list[str], typer.Option("--host", help="DNS name or IP address of the webhook; may be repeated.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Make or renew the certificate in a folder, for a webhook outside a cluster. Run again, it does what is due."""
    from aiqueue.admission.certificates import files

    done = files.provide(path, host)
    _tell(files.read(path), done, output)


@app.command(epilog=EPILOG)
def keep(
    namespace: Annotated[str, typer.Option(help="Of the Secret and of the webhook's Service.")] = "aiqueue-system",
    certificate: Annotated[
        str, typer.Option("--secret", help="Name of the Secret, which must exist.")
    ] = "aiqueue-webhook-certificate",
    configuration: Annotated[str, typer.Option(help="Name of the ValidatingWebhookConfiguration.")] = "aiqueue",
    service: Annotated[
        str, typer.Option(help="Name of the Service: the certificate is for its host names.")
    ] = "aiqueue-webhook",
    output: OutputOption = Output.TEXT,
) -> None:
    """Do what is due for the certificate of the cluster's webhook, once; a CronJob runs this every hour.

    Uses the service account of the pod, or the kubeconfig file that AIQUEUE_KUBECONFIG names. It must be allowed to get and
    patch that Secret and that ValidatingWebhookConfiguration, and needs no other right.
    """
    from aiqueue.admission.certificates import keeper
    from aiqueue.cli.ledger import settings

    place = keeper.Place(namespace, certificate, configuration, service)
    client = _client(settings())
    try:
        held, done = keeper.keep(client, place)
    finally:
        client.close()
    _tell(held, done, output)


def _client(settings: Settings) -> KubeClient:
    from aiqueue.admission.kube.client import KubeClient

    if settings.kubeconfig is not None:
        return KubeClient.from_kubeconfig(settings.kubeconfig, connections=1, component="certificates")
    return KubeClient.in_cluster(connections=1, component="certificates")


def _tell(held: Material | None, done: Sequence[str], output: Output) -> None:
    """Say what was done and how long it is good for; nothing of the keys."""
    from aiqueue.admission.certificates import x509
    from aiqueue.queue.errors import NotFound

    if held is None:
        raise NotFound("the certificates that were just written are gone: somebody else empties the same place")
    served = x509.load_certificate(held.certificate)
    hosts, until = sorted(x509.hosts_of(served)), served.not_valid_after_utc
    authorities = [x509.load_certificate(each).not_valid_after_utc for each in x509.blocks_of(held.bundle)]
    if output is Output.JSON:
        facts = {
            "changed": bool(done),
            "done": list(done),
            "hosts": hosts,
            "valid_until": until.isoformat(),
            "authorities_valid_until": [each.isoformat() for each in authorities],
        }
        print(json.dumps(facts, indent=2))
        return
    for sentence in done or ("nothing was due",):
        print(sentence)
    print(f"{', '.join(hosts)}: good until {until:%Y-%m-%d %H:%M} UTC, its authority until {authorities[0]:%Y-%m-%d} UTC")
