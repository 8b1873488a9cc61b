"""Kubeconfig files: one server, one user, everything embedded so that the file can be moved."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from aiqueue.cli.harness import folders
from aiqueue.cli.harness.certificates import Pair


def _embedded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def write(path: Path, *, server: str, ca_file: Path, user: str, client: Pair | None = None, token: str | None = None) -> Path:
    """Write a kubeconfig (mode 0600) for a client certificate or a token; return its path.

    Args:
        path: the file.
        server: `https://host:port`.
        ca_file: the authority to trust.
        user: what the user is called in the file; the server goes by certificate or token.
        client: a client certificate.
        token: a bearer token.
    """
    credentials: dict[str, Any] = {}
    if client is not None:
        credentials["client-certificate-data"] = _embedded(client.certificate)
        credentials["client-key-data"] = _embedded(client.key)
    if token is not None:
        credentials["token"] = token
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "aiqueue-dev", "cluster": {"server": server, "certificate-authority-data": _embedded(ca_file)}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "aiqueue-dev", "context": {"cluster": "aiqueue-dev", "user": user}}],
        "current-context": "aiqueue-dev",
    }
    # JSON is YAML.
    folders.write_private(path, json.dumps(content, indent=1) + "\n")
    return path
