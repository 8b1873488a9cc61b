"""What a controller does not see of what surrounds Jobs keeps it from leading. Nobody listens where it asks."""

from __future__ import annotations

from kubernetes import client as official

from aiqueue.admission.controller.sight import Sight
from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli.harness import ports
from aiqueue.cli.harness.waiting import until


def test_what_was_never_listed_is_missed_after_a_while() -> None:
    (port,) = ports.choose(1)
    configuration = official.Configuration()
    configuration.host = f"http://127.0.0.1:{port}"
    client = KubeClient(configuration)
    sight = Sight(client, lambda: None)
    assert sight.missing(0.0) is None, "nobody has tried yet"
    sight.start()
    try:
        said = until(lambda: sight.missing(0.0), seconds=60, what="something to be missed")
        assert said.startswith(
            ("LimitRanges could not be listed and watched for", "RuntimeClasses could not be listed and watched for")
        )
        assert sight.missing(3600.0) is None
        assert not sight.synced
    finally:
        sight.stop()
        client.close()
