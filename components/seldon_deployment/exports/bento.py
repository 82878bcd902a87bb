"""An admitted model as the sources of a bento: `bentoml build` makes one of the folder, `bentoml serve` runs it."""

from pathlib import Path

import yaml

from kfp_custody.components._shared.images import VERSION
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.exports.layout import contents, entry, write
from kfp_custody.components.seldon_deployment.serving.exported import PINS, SIGNED


def export_bento(admitted: Admitted, name: str, directory: Path) -> None:
    """Write bentofile.yaml, service.py, the pins and the signed model.

    Args:
        admitted: what `require_admitted` returned.
        name: name of the service, and of the bento.
        directory: the folder to make.

    Raises:
        EvidenceInvalid: bytes changed since the model was admitted.
        InputRefused: the model's own signature file cannot be read.
        PolicyRefused: the model has files that nothing reads.
        Misconfigured: the directory exists, or the name is no DNS label.
        OSError: a file cannot be read or written.
    """
    tree, _ = contents(admitted, name)
    bentofile = {
        "service": "service:SignedModel",
        "name": name,
        "labels": {"custody-model": admitted.version},
        "include": ["service.py", PINS, f"{SIGNED}/model.sig", f"{SIGNED}/model/*"],
        "python": {"packages": [f"kfp-custody[exported]=={VERSION}"], "lock_packages": False},
    }
    tree["bentofile.yaml"] = yaml.safe_dump(bentofile, sort_keys=False).encode()
    tree["service.py"] = entry("bentoml_service")
    write(tree, directory)
