"""A fake Kubernetes API server: it stands in for a real one, which cannot run on this machine.

Real HTTP on 127.0.0.1 with real clients, and the answers that Kubernetes documents: versions, conflicts, server-side
apply, watches, schemas, CEL, admission policies, RBAC and reviews of one's own access. It shows that our side copes
with these answers; that a real API server gives them was not verified here. Not there: JSON and strategic patches, list
types other than atomic, conversion between versions, pagination, other subresources than /status, mutating admission,
webhooks, garbage collection, and everything that controllers do (`on_change` lets a test do it).
"""

from kube_api.faults import Fault
from kube_api.kinds import EXPERIMENT, MODEL, Kind
from kube_api.running import ADMIN_TOKEN, FakeApi, fake_api
from kube_api.store import Change, Store

__all__ = ["ADMIN_TOKEN", "EXPERIMENT", "MODEL", "Change", "FakeApi", "Fault", "Kind", "Store", "fake_api"]
