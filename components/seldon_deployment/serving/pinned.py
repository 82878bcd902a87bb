"""The one model of a server that is started for it: by the pod's environment, and by nothing that lies in the store.

Where a platform brings a model's files and starts a server on them (Seldon Core v1, KServe), nobody calls the
repository API and nobody writes settings with digests. There the object in the cluster, which the deployer writes and
an admission policy can check, says which bytes may be loaded:

| variable | meaning |
|---|---|
| CUSTODY_MODEL | name that the model is served under |
| CUSTODY_LISTING_SHA256 | SHA-256 of the model's listing |
| CUSTODY_SIGNATURE_SHA256 | SHA-256 of its `model.sig` |

The repository's folder then holds `model/` and `model.sig` themselves; a `model-settings.json` in it counts for
nothing.
"""

import os
from collections.abc import Mapping

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.keys import is_sha256

MODEL, LISTING, SIGNATURE = "CUSTODY_MODEL", "CUSTODY_LISTING_SHA256", "CUSTODY_SIGNATURE_SHA256"


def pinned_model(environ: Mapping[str, str] = os.environ) -> tuple[str, dict[str, str]] | None:
    """Return the name of the one model and its pins; None when the environment names none.

    Raises:
        Misconfigured: a part of it is missing or malformed.
    """
    given = {name: environ[name] for name in (MODEL, LISTING, SIGNATURE) if environ.get(name)}
    if not given:
        return None
    if len(given) < 3 or not is_sha256(given[LISTING]) or not is_sha256(given[SIGNATURE]):
        raise Misconfigured(
            "The environment pins no model; nothing is served.",
            evidence=f"given: {', '.join(sorted(given))}; each digest has 64 lower-case hex digits",
            remedy="Let deploy_model write the object, or set all three as serving/pinned.py says.",
        )
    return given[MODEL], {"listing_sha256": given[LISTING], "signature_sha256": given[SIGNATURE]}
