"""A server that runs, and how to reach it."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from kube_api.admission import Policies
from kube_api.certificates import certified
from kube_api.documents import Source
from kube_api.faults import Faults
from kube_api.kinds import KINDS, Kind
from kube_api.operations import Operations
from kube_api.rbac import ADMIN, Rbac
from kube_api.requests import Request
from kube_api.schemas import Schemas
from kube_api.server import Server
from kube_api.store import Change, Store

ADMIN_TOKEN = "admin-token"


class FakeApi:
    """What a test holds of a running server: its objects, the requests so far, and what is to go wrong."""

    def __init__(self, server: Server, store: Store, without_schema: list[str], ca: Path | None) -> None:
        self.url = f"{'https' if ca else 'http'}://127.0.0.1:{server.server_port}"
        self.ca = ca
        self.store, self.without_schema = store, without_schema
        self.requests: list[Request] = server.requests
        self.faults: Faults = server.faults

    def on_change(self, listener: Callable[[Change], None]) -> None:
        self.store.on_change(listener)

    def kubeconfig(self, path: Path, token: str = ADMIN_TOKEN, namespace: str = "default") -> Path:
        """Write a kubeconfig and return its path."""
        authority = {"certificate-authority": str(self.ca)} if self.ca else {}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": self.url, **authority}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "user", "namespace": namespace}}],
            "current-context": "fake",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def api_client(self, token: str = ADMIN_TOKEN, retries: int | None = None) -> Any:
        """Return the Python client's ApiClient; by default it repeats requests as it does with a real server."""
        from kubernetes import client

        configuration = client.Configuration(host=self.url, api_key={"authorization": f"Bearer {token}"})
        configuration.retries, configuration.proxy = retries, None
        configuration.ssl_ca_cert = self.ca and str(self.ca)
        return client.ApiClient(configuration)


@contextmanager
def fake_api(
    schemas: Iterable[Path] = (),
    roles: Iterable[Source] | None = None,
    kinds: Iterable[Kind] = (),
    policies: Iterable[Source] = (),
    tokens: Mapping[str, str] | None = None,
    tls: Path | None = None,
) -> Iterator[FakeApi]:
    """Serve on a free port of 127.0.0.1.

    Args:
        schemas: Folders of JSON schemas; one that is not there is left out.
        roles: Files or objects of RBAC; None allows everybody everything.
        kinds: Further resources to serve.
        policies: Files or objects of ValidatingAdmissionPolicies and their bindings.
        tokens: Bearer token -> user, such as `system:serviceaccount:serving:deployer`; `ADMIN_TOKEN` is known anyway.
        tls: Folder for a certificate: then it is HTTPS, without which kubectl sends no token.
    """
    served, store = (*KINDS, *kinds), Store()
    checks, rbac = Schemas(schemas), Rbac(roles)
    operations = Operations(store, checks, Policies(policies), rbac)
    ca, context = certified(tls) if tls else (None, None)
    server = Server(served, operations, rbac, {ADMIN_TOKEN: ADMIN, **(tokens or {})}, context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield FakeApi(server, store, checks.missing(served), ca)
    finally:
        store.close()
        server.close()
        thread.join()
