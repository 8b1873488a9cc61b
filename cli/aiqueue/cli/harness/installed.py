"""aiqueue itself in an environment of the harness: the last part of `aiqueue dev up`.

`bring_up` migrates the ledger, applies the manifests and the fake nodes of `examples/`, runs `aiqueue controller` and
`aiqueue webhook` as the services `controller` and `webhook`, and has the API server ask the webhook. It finds its work done
when called again: the logins of the ledger are made once and kept with the environment, readable by its owner only, so that
what a shell was told by `aiqueue dev env` stays true; the webhook's certificate is renewed in time; what ended is started again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from aiqueue.admission import certificates
from aiqueue.cli import resources
from aiqueue.cli.harness import databases, folders, manifests, ports, product, services
from aiqueue.cli.harness.environment import DevEnvironment, after_up
from aiqueue.cli.harness.errors import HarnessError, ProgramFailed
from aiqueue.cli.harness.product import Product
from aiqueue.cli.harness.services import Service
from aiqueue.cli.harness.waiting import pause

CONTROLLER, WEBHOOK = "controller", "webhook"
FILE = "installed.json"
CERTIFICATES = "webhook-certificate"
#: What the webhook's certificate is for.
HOSTS = (ports.LOOPBACK, "localhost")
#: A chosen port may be taken before the process binds it.
START_ATTEMPTS = 4
#: What RBAC and the policies know the controller by, as for any token of its service account.
_USER = f"system:serviceaccount:{manifests.NAMESPACE}:{manifests.SERVICE_ACCOUNT}"
_GROUPS = ("system:serviceaccounts", f"system:serviceaccounts:{manifests.NAMESPACE}")


@dataclass(frozen=True, slots=True)
class Installed:
    """What is kept between two calls. What has a default may be missing: an aiqueue without it kept the rest.

    Attributes:
        admin_url: the ledger, as an administrator of tenants and queues; holds a password.
        controller_url: the ledger, as the controller; holds a password.
        health_port: where the controller answers /readyz on loopback; 0 before it first ran.
        webhook_url: the ledger, as the webhook; holds a password; empty before it first ran.
        webhook_port: where the webhook answers on loopback; 0 before it first ran.
    """

    admin_url: str
    controller_url: str
    health_port: int = 0
    webhook_url: str = ""
    webhook_port: int = 0


def enlist() -> None:
    """Have `bring_up` called at the end of every `up` of this process."""
    if bring_up not in after_up:
        after_up.append(bring_up)


def bring_up(environment: DevEnvironment) -> None:
    """Install aiqueue, add the fake nodes, and return when the controller and the webhook are ready and asked.

    Raises:
        HarnessError: the cluster refused something, or a process is not ready in time; says what it lacks.
        ProgramFailed: the controller or the webhook ended; carries the tail of its log.
        LedgerError: the database cannot be reached.
    """
    product.migrate(environment.database_url)
    certificates.provide(_certificates(environment), HOSTS)
    manifests.apply_dev(environment.cluster)
    environment.cluster.kubectl("apply", "--filename", str(resources.examples_path() / "nodes.yaml"))
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            _start(environment)
        except ProgramFailed as error:
            if "Address already in use" not in str(error) or attempt == START_ATTEMPTS:
                raise
            pause(attempt)
        else:
            return


def admin_url(environment: DevEnvironment) -> str:
    """The ledger's URL for the administrator of tenants and queues; holds a password.

    Raises:
        HarnessError: `bring_up` never ended well here.
    """
    return _load(environment).admin_url


def controller_url(environment: DevEnvironment) -> str:
    """The ledger's URL for the controller, which it takes to repair it; holds a password.

    Raises:
        HarnessError: `bring_up` never ended well here.
    """
    return _load(environment).controller_url


@contextmanager
def stopped(environment: DevEnvironment, name: str) -> Iterator[None]:
    """Have the controller or the webhook stopped during the block, and ready again after it.

    If the block fails, it stays stopped.

    Raises:
        HarnessError: it is not ready in time; says what it lacks.
    """
    with folders.locked(environment.folder / folders.LOCK):
        environment.stop_service(name)
        yield
        _start(environment)


def _start(environment: DevEnvironment) -> None:
    """Start the controller and the webhook, unless they run, and wait until they are ready and the webhook is asked."""
    kept = _logins(environment)
    kept = replace(
        kept,
        health_port=_port(environment, CONTROLLER, kept.health_port),
        webhook_port=_port(environment, WEBHOOK, kept.webhook_port),
    )
    _save(environment, kept)
    services.start(environment, [_controller(environment, kept), _webhook(environment, kept)])
    manifests.register_webhook(environment.cluster, kept.webhook_port, _certificates(environment) / "ca.crt")


def _port(environment: DevEnvironment, name: str, kept: int) -> int:
    """The port of a process that runs; else that of last time if nobody took it."""
    if kept and environment.find_service(name) is not None:
        return kept
    (port,) = ports.choose(1, [kept] if kept else [])
    return port


def _controller(environment: DevEnvironment, kept: Installed) -> Service:
    def settings() -> dict[str, str]:
        # A certificate lasts as long as the cluster's; a token of the service account would end after a day.
        as_controller = environment.cluster.user_kubeconfig(_USER, _GROUPS)
        found = Product(environment.database_url, kept.admin_url, kept.controller_url, as_controller)
        return found.controller_environment(AIQUEUE_HEALTH_ADDRESS=f"{ports.LOOPBACK}:{kept.health_port}")

    return Service(CONTROLLER, product.COMMAND, settings, partial(services.readiness, kept.health_port))


def _webhook(environment: DevEnvironment, kept: Installed) -> Service:
    folder, port = _certificates(environment), kept.webhook_port
    settings = partial(product.webhook_environment, kept.webhook_url, port, folder)
    return Service(WEBHOOK, product.WEBHOOK_COMMAND, settings, partial(services.readiness, port, folder / "ca.crt"))


def _certificates(environment: DevEnvironment) -> Path:
    return environment.services_folder / CERTIFICATES


def _logins(environment: DevEnvironment) -> Installed:
    """The logins made last time where they still open the ledger, else fresh ones."""
    owner = environment.database_url
    try:
        kept = _load(environment)
        for url in filter(None, (kept.admin_url, kept.controller_url, kept.webhook_url)):
            databases.comment_of(url)
    except HarnessError:
        # Never made, or the data folder they belonged to is gone.
        for name in (CONTROLLER, WEBHOOK):
            environment.stop_service(name)
        kept = Installed(product.login(owner, "admin"), product.login(owner, "controller"))
        # The cluster may still be that of a ledger that is gone.
        manifests.hand_over(environment.cluster.api, product.ledger_uid(owner))
    return kept if kept.webhook_url else replace(kept, webhook_url=product.login(owner, "webhook"))


def _path(environment: DevEnvironment) -> Path:
    return environment.services_folder / FILE


def _save(environment: DevEnvironment, kept: Installed) -> None:
    environment.services_folder.mkdir(parents=True, exist_ok=True)
    folders.write_private(_path(environment), json.dumps(asdict(kept), indent=1) + "\n")


def _load(environment: DevEnvironment) -> Installed:
    """What was kept, with the port that Postgres has now.

    Raises:
        HarnessError: there is nothing, or it is damaged.
    """
    path, port = _path(environment), environment.postgres.port
    try:
        kept = Installed(**json.loads(path.read_text()))
        return Installed(
            admin_url=_at(kept.admin_url, port),
            controller_url=_at(kept.controller_url, port),
            health_port=int(kept.health_port),
            webhook_url=_at(kept.webhook_url, port) if kept.webhook_url else "",
            webhook_port=int(kept.webhook_port),
        )
    except (OSError, ValueError, TypeError, ArgumentError) as error:
        raise HarnessError(
            f"{path} cannot be used ({type(error).__name__}): start the environment with `aiqueue dev up`"
        ) from error


def _at(url: str, port: int) -> str:
    return make_url(url).set(port=port).render_as_string(hide_password=False)
