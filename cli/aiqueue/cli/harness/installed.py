"""aiqueue itself in an environment of the harness: the last part of `aiqueue dev up`.

`bring_up` migrates the ledger, applies the manifests and the fake nodes of `examples/`, and runs `aiqueue controller` as the
service `controller`. It finds its work done when called again: the logins of the ledger are made once and kept with the
environment, readable by its owner only, so that what a shell was told by `aiqueue dev env` stays true.
"""

from __future__ import annotations

import http.client
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import make_url

from aiqueue.cli import resources
from aiqueue.cli.harness import databases, folders, manifests, ports, product
from aiqueue.cli.harness.environment import DevEnvironment, after_up
from aiqueue.cli.harness.errors import HarnessError, ProgramFailed
from aiqueue.cli.harness.product import Product
from aiqueue.cli.harness.state import Record
from aiqueue.cli.harness.waiting import pause, until

CONTROLLER = "controller"
FILE = "installed.json"
READY_SECONDS = 60.0
HEALTH_SECONDS = 5.0
#: A chosen port may be taken before the controller binds it.
START_ATTEMPTS = 4
#: What RBAC and the policies know the controller by, as for any token of its service account.
_USER = f"system:serviceaccount:{manifests.NAMESPACE}:{manifests.SERVICE_ACCOUNT}"
_GROUPS = ("system:serviceaccounts", f"system:serviceaccounts:{manifests.NAMESPACE}")


@dataclass(frozen=True, slots=True)
class Installed:
    """What is kept between two calls.

    Attributes:
        admin_url: the ledger, as an administrator of tenants and queues; holds a password.
        controller_url: the ledger, as the controller; holds a password.
        health_port: where the controller answers /readyz on loopback; 0 before it first ran.
    """

    admin_url: str
    controller_url: str
    health_port: int = 0


def enlist() -> None:
    """Have `bring_up` called at the end of every `up` of this process."""
    if bring_up not in after_up:
        after_up.append(bring_up)


def bring_up(environment: DevEnvironment) -> None:
    """Install aiqueue, add the fake nodes, and return when the controller is ready.

    Raises:
        HarnessError: the cluster refused something, or the controller is not ready in time; says what it lacks.
        ProgramFailed: the controller ended; carries the tail of its log.
        LedgerError: the database cannot be reached.
    """
    product.migrate(environment.database_url)
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


def _start(environment: DevEnvironment) -> None:
    """Start the controller, unless it runs, and wait until it is ready."""
    kept = _logins(environment)
    record = environment.find_service(CONTROLLER)
    if record is None:
        (port,) = ports.choose(1, [kept.health_port] if kept.health_port else [])
        kept = Installed(kept.admin_url, kept.controller_url, port)
        _save(environment, kept)
        # A certificate lasts as long as the cluster's; a token of the service account would end after a day.
        as_controller = environment.cluster.user_kubeconfig(_USER, _GROUPS)
        found = Product(environment.database_url, kept.admin_url, kept.controller_url, as_controller)
        record = environment.start_service(
            CONTROLLER,
            [sys.executable, "-m", "aiqueue.cli.main", "controller"],
            found.controller_environment(AIQUEUE_HEALTH_ADDRESS=f"{ports.LOOPBACK}:{port}"),
        )
    _await_ready(environment, record, kept.health_port)


def _await_ready(environment: DevEnvironment, record: Record, port: int) -> None:
    lacking = "it does not answer yet"

    def ready() -> bool:
        nonlocal lacking
        environment.require_service(record)
        lacking = _lacking(port)
        return not lacking

    try:
        until(ready, seconds=READY_SECONDS, what="readiness of the controller", longest_pause_seconds=0.1)
    except ProgramFailed:
        raise
    except HarnessError as error:
        raise HarnessError(f"{error}: {lacking}; see `aiqueue dev logs {CONTROLLER}`") from error


def _lacking(port: int) -> str:
    """Why the controller is not ready, in its own words; empty when it is."""
    connection = http.client.HTTPConnection(ports.LOOPBACK, port, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"it does not answer: {error}"
    finally:
        connection.close()
    return "" if answer.status == 200 else said


def _logins(environment: DevEnvironment) -> Installed:
    """The logins made last time where they still open the ledger, else fresh ones."""
    try:
        kept = _load(environment)
        for url in (kept.admin_url, kept.controller_url):
            databases.comment_of(url)
    except HarnessError:
        # Never made, or the data folder they belonged to is gone.
        if environment.find_service(CONTROLLER) is not None:
            environment.stop_service(CONTROLLER)
        owner = environment.database_url
        kept = Installed(product.login(owner, "admin"), product.login(owner, "controller"))
        _save(environment, kept)
    return kept


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
    path = _path(environment)
    try:
        kept = Installed(**json.loads(path.read_text()))
        urls = [make_url(each).set(port=environment.postgres.port) for each in (kept.admin_url, kept.controller_url)]
    except (OSError, ValueError, TypeError) as error:
        raise HarnessError(
            f"{path} cannot be used ({type(error).__name__}): start the environment with `aiqueue dev up`"
        ) from error
    admin, controller = (each.render_as_string(hide_password=False) for each in urls)
    return Installed(admin, controller, int(kept.health_port))
