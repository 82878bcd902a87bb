"""The retraining file: what may be started, in which version and with which parameters. It belongs to the platform.

```yaml
version: 1
orders:
  - name: fraud-detection
    pipeline: fraud-detection           # its name on the server, where `kfp-custody upload` brought it
    version: 0.1.0-3f2a90c1d5e7         # the name of an uploaded version, never "the latest"
    experiment: retraining              # optional: Default
    service_account: custody-pipeline   # optional: the server's own
    parameters:                         # no secret: Kubeflow Pipelines shows them
      data_uri: s3://bank-transactions/[[ScheduledTime.2006-01]]
alerts:                                 # optional: for `kfp-custody webhook`
  - labels: {alertname: CustodyDrift, model: fraud-detection}
    order: fraud-detection
```

In a parameter's text [[ScheduledTime]] becomes the window's time in UTC, as Kubeflow Pipelines writes it in a schedule;
[[ScheduledTime.2006-01-02]] its day, [[ScheduledTime.2006-01]] its month. Of an alert it is the time that it started.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_yaml, read_document, require_keys
from kfp_custody.components._shared.errors import Misconfigured

_LAYOUTS: Final = {"": "%Y%m%d%H%M%S", ".2006-01-02": "%Y-%m-%d", ".2006-01": "%Y-%m"}
_MACRO: Final = re.compile(r"\[\[([^\[\]]*)\]\]")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,52}[a-z0-9])?")
_LATEST: Final = ("latest", "default")


@dataclass(frozen=True)
class Order:
    """What is started: see the top of this module."""

    name: str
    pipeline: str
    version: str
    experiment: str
    service_account: str | None
    parameters: Mapping[str, Any]

    def at(self, moment: datetime) -> dict[str, Any]:
        """Return the parameters of a window."""
        return {name: _replaced(value, moment) for name, value in self.parameters.items()}


@dataclass(frozen=True)
class Alert:
    """Which alerts start which order: all of the labels must be equal."""

    labels: Mapping[str, str]
    order: str


@dataclass(frozen=True)
class Orders:
    """The file, read: its SHA-256 (hex) and its entries."""

    sha256: str
    orders: Mapping[str, Order]
    alerts: tuple[Alert, ...]

    def order(self, name: str) -> Order:
        """Return an order by name.

        Raises:
            Misconfigured: there is none.
        """
        if name not in self.orders:
            raise Misconfigured(
                "The platform knows no such retraining.",
                evidence=f"{name[:80]!r} is none of {', '.join(sorted(self.orders)) or 'none'}",
                remedy="Name one of them, or have the platform's team add it to the retraining file.",
                code=codes.RETRAINING_FILE,
            )
        return self.orders[name]

    def for_alert(self, labels: Mapping[str, str]) -> Order | None:
        """Return what an alert with these labels starts: of the entries that fit, that with the most labels."""
        fitting = [alert for alert in self.alerts if alert.labels.items() <= labels.items()]
        best = max(fitting, key=lambda alert: len(alert.labels), default=None)
        return self.orders[best.order] if best else None


def load_orders(path: Path) -> Orders:
    """Read the retraining file strictly.

    Raises:
        Misconfigured: it is missing or malformed.
    """
    try:
        data = read_document(path)
        document = require_keys(parse_yaml(data), "the file", ("version", "orders"), ("alerts",))
        if type(document["version"]) is not int or document["version"] != 1:
            raise DocumentFault("its version is not 1")
        orders = [_order(entry, f"order {n}") for n, entry in enumerate(_list(document["orders"], "orders"), 1)]
        known = {order.name: order for order in orders}
        if len(known) != len(orders):
            raise DocumentFault("a name stands in it twice")
        listed = _list(document.get("alerts", []), "alerts")
        alerts = tuple(_alert(entry, f"alert {n}", known) for n, entry in enumerate(listed, 1))
        if len({tuple(sorted(alert.labels.items())) for alert in alerts}) != len(alerts):
            raise DocumentFault("two alerts have the same labels")
    except (DocumentFault, OSError) as error:
        reason = str(error) if isinstance(error, DocumentFault) else type(error).__name__
        raise Misconfigured(
            "The file that says what a retraining is cannot be used.",
            evidence=f"{path}: {reason}",
            remedy="Set CUSTODY_RETRAINING to a retraining file; the room's README shows one.",
            code=codes.RETRAINING_FILE,
        ) from error
    return Orders(sha256_bytes(data), known, alerts)


def _order(value: Any, where: str) -> Order:
    optional = ("experiment", "service_account", "parameters")
    entry = require_keys(value, where, ("name", "pipeline", "version"), optional)
    texts = ("name", "pipeline", "version", "experiment", "service_account")
    if not all(isinstance(entry.get(name, "x"), str) and entry.get(name, "x") for name in texts):
        raise DocumentFault(f"{where}: one of {', '.join(texts)} is no text")
    if not _NAME.fullmatch(entry["name"]):
        raise DocumentFault(f"{where}: its name is no DNS label of at most 54 characters")
    if entry["version"].lower() in _LATEST:
        raise DocumentFault(f"{where}: its version is not the name of one uploaded version")
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict) or not all(isinstance(name, str) for name in parameters):
        raise DocumentFault(f"{where}: its parameters are no mapping of names to values")
    for name, text in parameters.items():
        for macro in _MACRO.findall(text) if isinstance(text, str) else ():
            if macro.removeprefix("ScheduledTime") not in _LAYOUTS or not macro.startswith("ScheduledTime"):
                raise DocumentFault(f"{where}: {name} holds [[{macro[:40]}]], which is not replaced")
    return Order(
        name=entry["name"],
        pipeline=entry["pipeline"],
        version=entry["version"],
        experiment=entry.get("experiment", "Default"),
        service_account=entry.get("service_account"),
        parameters=parameters,
    )


def _alert(value: Any, where: str, known: Mapping[str, Order]) -> Alert:
    entry = require_keys(value, where, ("labels", "order"))
    labels = entry["labels"]
    texts = isinstance(labels, dict) and all(isinstance(text, str) for pair in labels.items() for text in pair)
    if not texts or "alertname" not in labels:
        raise DocumentFault(f"{where}: its labels are no mapping of texts with an alertname")
    if entry["order"] not in known:
        raise DocumentFault(f"{where}: there is no order {str(entry['order'])[:80]!a}")
    return Alert(labels, entry["order"])


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise DocumentFault(f"{name} is no list")
    return value


def _replaced(value: Any, moment: datetime) -> Any:
    if not isinstance(value, str):
        return value
    return _MACRO.sub(lambda found: moment.strftime(_LAYOUTS[found[1].removeprefix("ScheduledTime")]), value)
