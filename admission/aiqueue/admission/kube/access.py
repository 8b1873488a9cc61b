"""How an API server is reached and believed, and how we prove who we are: what the official client makes of a configuration."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml
from kubernetes import client as official
from kubernetes import config as official_config

from aiqueue.admission.kube import deadlines, errors

if TYPE_CHECKING:
    import urllib3

_AUTHORIZED_SECONDS = 1.0  # credentials are asked for again after this: a token rotates in minutes
_LOOPBACK = ("127.0.0.1", "::1", "localhost")  # what `kubectl proxy` offers there needs no TLS

_loaders: Any = official_config  # its functions carry no types


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect. `tls` is None where no TLS is spoken; `prefix` comes before every path."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    server_name: str | None
    prefix: str


class Access:
    """Transport and credentials for one API server. Safe for use by many threads.

    Args:
        configuration: of the official client.
        connections: that its pool keeps at most.
    """

    def __init__(self, configuration: official.Configuration, connections: int) -> None:
        configuration.connection_pool_maxsize = connections
        configuration.keep_alive = True
        configuration.retries = False
        self._configuration = configuration
        self._api = official.ApiClient(configuration)
        deadlines.keep(self.pool)
        self._lock = threading.Lock()
        self._authorization: dict[str, str] = {}
        self._authorized_until = 0.0
        self.host = str(configuration.host).rstrip("/")

    @property
    def pool(self) -> urllib3.PoolManager:
        """Connections, with TLS as configured."""
        pool: urllib3.PoolManager = self._api.rest_client.pool_manager
        return pool

    def authorization(self) -> dict[str, str]:
        """Headers that prove who we are; empty where the connection itself does.

        Raises:
            UnusableCredentials: they cannot be renewed.
        """
        with self._lock:
            if time.monotonic() >= self._authorized_until:
                found: dict[str, str] = {}
                try:
                    # Runs the hook that reads a rotated token again, or asks the program that a kubeconfig names.
                    self._api.update_params_for_auth(found, [], ["BearerToken"], "", "", None)
                except official_config.ConfigException as error:
                    raise errors.UnusableCredentials(f"the credentials for {self.host} cannot be renewed: {error}") from error
                self._authorization, self._authorized_until = found, time.monotonic() + _AUTHORIZED_SECONDS
            return self._authorization

    def refused(self) -> None:
        """The server did not take the credentials: look for newer ones before the next request."""
        with self._lock:
            self._authorized_until = 0.0

    @property
    def has_proxy(self) -> bool:
        """Whether a proxy stands between us and the server."""
        return bool(self._configuration.proxy)

    def endpoint(self) -> Endpoint:
        """Where to connect without the pool."""
        url, given = urlsplit(self.host), self._configuration
        host = url.hostname or ""
        if url.scheme != "https":
            return Endpoint(host, url.port or 80, None, None, url.path)
        context = ssl.create_default_context(cafile=given.ssl_ca_cert)
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)  # as the pool: clusters' own authorities are not strict
        if given.cert_file:
            context.load_cert_chain(given.cert_file, given.key_file)
        return Endpoint(host, url.port or 443, context, getattr(given, "tls_server_name", None) or host, url.path)


def of_kubeconfig(path: str | Path, context: str | None = None) -> official.Configuration:
    """What a kubeconfig file says.

    Raises:
        UnusableCredentials: the file is missing, is no kubeconfig, names credentials that cannot be read, or would have
            us talk to a server that does not prove who it is.
    """
    configuration = official.Configuration()
    try:
        _loaders.load_kube_config(
            config_file=str(path), context=context, client_configuration=configuration, persist_config=False
        )
    except (official_config.ConfigException, OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        # The loader stumbles over what has another form than it expects.
        why = "its content is not that of a kubeconfig" if isinstance(error, (TypeError, KeyError)) else str(error).rstrip(".")
        raise errors.UnusableCredentials(
            f"kubeconfig {str(path)!r} cannot be used: {why}; check that the file exists and that kubectl can use it"
        ) from error
    _require_proof(configuration, path)
    return configuration


def of_pod() -> official.Configuration:
    """What the service account of the pod that we run in says; its token is read again as it rotates.

    Raises:
        UnusableCredentials: this is no pod, or its service account's token is not mounted.
    """
    configuration = official.Configuration()
    try:
        _loaders.load_incluster_config(client_configuration=configuration)
    except (official_config.ConfigException, OSError) as error:
        raise errors.UnusableCredentials(
            f"the pod's service account cannot be used: {str(error).rstrip('.')}; outside a cluster name a kubeconfig file in "
            "AIQUEUE_KUBECONFIG, inside one set automountServiceAccountToken"
        ) from error
    return configuration


def _require_proof(configuration: official.Configuration, path: str | Path) -> None:
    """Refuse a server whose certificate would not be verified: it would be sent our credentials."""
    url = urlsplit(str(configuration.host))
    if url.scheme == "https" and not configuration.verify_ssl:
        raise errors.UnusableCredentials(
            f"kubeconfig {str(path)!r} sets insecure-skip-tls-verify: take it out, and put the authority of the server's "
            "certificate into certificate-authority-data"
        )
    if url.scheme != "https" and url.hostname not in _LOOPBACK:
        raise errors.UnusableCredentials(
            f"kubeconfig {str(path)!r} names the server {configuration.host!r}, which does not speak TLS: write an https URL"
        )
