"""The store and the starter that the settings ask for."""

from datetime import datetime

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.settings import WatchSettings, load_kfp_settings
from kfp_custody.components.retraining.claims import Store
from kfp_custody.components.retraining.folder_store import FolderStore
from kfp_custody.components.retraining.kfp_starter import KfpStarter
from kfp_custody.components.retraining.lease_store import LeaseStore
from kfp_custody.components.retraining.local_starter import LocalStarter
from kfp_custody.components.retraining.orders import Order


def open_store(settings: WatchSettings) -> Store:
    """Return where claims are kept.

    Raises:
        Misconfigured: there is no access to the cluster.
    """
    return FolderStore(settings.folder) if settings.folder else LeaseStore(settings.namespace or "")


def open_starter(settings: WatchSettings, order: Order, moment: datetime) -> KfpStarter | LocalStarter:
    """Return what starts an order for the window of a moment; it has checked what it can.

    Raises:
        Misconfigured, InputRefused, ServiceUnreachable: see `KfpStarter`; a local start needs claims in a folder.
    """
    if settings.command is None:
        return KfpStarter(load_kfp_settings({}), order, moment)
    if settings.folder is None:
        raise Misconfigured(
            "A retraining on this machine needs its claims on this machine.",
            evidence="CUSTODY_RETRAIN is local, and CUSTODY_WATCH_STATE is no folder",
            remedy="Set CUSTODY_WATCH_STATE to the absolute path of a folder.",
            code=codes.WATCH_SETTINGS,
        )
    return LocalStarter(settings.folder, settings.command, order, moment)
