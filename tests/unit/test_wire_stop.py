"""The wire is stopped while it connects: whatever it had begun to open is closed, and its thread ends without a fault.

A fault of a thread, and a socket that nobody closed, are warnings, and those are errors here.
"""

from __future__ import annotations

import gc
import socket
import threading

from kubernetes import client as official

from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.wire import Request, Wire


def test_a_wire_that_is_stopped_while_it_connects_lets_go_of_everything() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # it takes connections and says nothing
        configuration = official.Configuration()
        configuration.host = f"https://127.0.0.1:{server.getsockname()[1]}"
        configuration.verify_ssl = False
        client = KubeClient(configuration)
        before = threading.active_count()
        for _ in range(3):
            wire = Wire(client, 4, pull=lambda: Request("/", b"{}", lambda _: None), waiting=lambda: 4, failed=lambda: None)
            wire.start()
            wire.wake()
            taken, _ = server.accept()
            with taken:
                wire.stop()
        client.close()
        assert threading.active_count() == before
    gc.collect()
