"""A namespace with a webhook at work that many tests share, and the words to ask and be refused in.

Calls go to the API server without kubectl, which takes most of a second to start.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from aiqueue.cli.harness import product
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.queue.database import open_database, transaction
from fix_doors import CONFIGURATION, Doors
from fix_ledger import Copies
from fix_managed import CLASS, QUEUE, Actor, await_right, job

NOTE = "aiqueue.dev/"  # prefix of annotations
#: Besides `CONFIGURATION`: a queue of another namespace, and one whose tenant takes no work.
MORE = """
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {name: theirs, namespace: somebody-else}
spec: {tenant: ops}
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {name: resting}
spec:
  state: Hold
  quotas:
  - flavor: cpu-only
    resources: [{name: cpu, nominal: 64}]
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {name: paused, namespace: NAMESPACE}
spec: {tenant: resting, defaultClass: normal}
"""


@pytest.fixture(scope="session")
def shop(managed_cluster: DevCluster, ledger_copies: Copies, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """A namespace whose Jobs one running webhook is asked about, for all tests that leave its ledger alone."""
    namespace = f"shop-{secrets.token_hex(4)}"
    managed_cluster.kubectl("create", "namespace", namespace)
    managed_cluster.kubectl(
        "create", "rolebinding", "editors", "--clusterrole=edit", "--user=alice", "--user=bob", f"--namespace={namespace}"
    )
    for user in ("alice", "bob"):
        await_right(managed_cluster, user, namespace=namespace)
    url = ledger_copies.take()
    ledger = open_database(url, application_name="test", pool_size=2)
    with transaction(ledger) as connection:
        connection.execute(text("UPDATE ledger SET uid = gen_random_uuid()"))
    folder = tmp_path_factory.mktemp("shop")
    made = Doors(ledger, url, product.login(url, "webhook"), namespace, folder, cluster=managed_cluster)
    made.apply(CONFIGURATION.format(namespace=namespace))
    made.apply(MORE.replace("NAMESPACE", namespace))
    made.register(made.await_ready(made.start()), timeoutSeconds=20)  # what it says is tried, not how soon
    yield made
    made.unregister()
    made.end_all()
    ledger.dispose()
    ledger_copies.give_back(url)
    managed_cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def fresh() -> str:
    return f"job-{secrets.token_hex(3)}"


def a_job(
    namespace: str,
    queue: str | None = "cpu",
    class_name: str | None = None,
    *,
    name: str | None = None,
    notes: dict[str, str] | None = None,
    requests: dict[str, Any] | None = None,
    pod: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A Job of one small pod for queue `cpu`, but for what the test is about."""
    labels = {key: value for key, value in ((QUEUE, queue), (CLASS, class_name)) if value is not None}
    annotations = {NOTE + key: value for key, value in (notes or {}).items()}
    made = job(namespace, name or fresh(), labels=labels, annotations=annotations, **spec)
    template = made["spec"]["template"]["spec"]
    if requests is not None:
        template["containers"][0]["resources"] = {"requests": requests, "limits": requests}
    template.update(pod or {})
    return made


def label(**labels: str | None) -> dict[str, Any]:
    """A patch of our labels."""
    return {"metadata": {"labels": {NOTE + key: value for key, value in labels.items()}}}


def note(key: str, value: str | None) -> dict[str, Any]:
    """A patch of one of our annotations."""
    return {"metadata": {"annotations": {NOTE + key: value}}}


def told(error: HarnessError) -> str:
    """The sentence of the webhook in a refusal."""
    before, mark, sentence = str(error).partition('admission webhook "jobs.aiqueue.dev" denied the request: ')
    assert mark, f"not refused by the webhook: {before}"
    return sentence


def creation_refused(actor: Actor, content: dict[str, Any]) -> str:
    with pytest.raises(HarnessError) as refusal:
        actor.create(content)
    return told(refusal.value)


def change_refused(actor: Actor, stored: dict[str, Any], change: dict[str, Any]) -> str:
    """The sentence of a refused patch; the Job is as it was."""
    with pytest.raises(HarnessError) as refusal:
        actor.patch(stored, change)
    assert actor.get(stored)["metadata"]["generation"] == stored["metadata"]["generation"]
    return told(refusal.value)
