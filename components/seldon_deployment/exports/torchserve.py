"""An admitted model as an archive of TorchServe: the same bytes whenever it is exported on the same decision."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.exports.layout import contents, entry, write

_MODE = 0o100644 << 16


def export_torchserve(admitted: Admitted, name: str, directory: Path) -> None:
    """Write `<name>.mar`: a manifest, handler.py, the pins and the signed model.

    Args:
        admitted: what `require_admitted` returned.
        name: name of the model, and of the archive.
        directory: the model store to make.

    Raises:
        EvidenceInvalid: bytes changed since the model was admitted.
        InputRefused: the model's own signature file cannot be read.
        PolicyRefused: the model has files that nothing reads.
        Misconfigured: the directory exists, or the name is no DNS label.
        OSError: a file cannot be read or written.
    """
    tree, _ = contents(admitted, name)
    model = {"modelName": name, "handler": "handler.py", "modelVersion": admitted.version}
    created = admitted.decided.strftime("%d/%m/%Y %H:%M:%S")  # TorchServe wants to read one; this one is no clock's
    manifest = {"createdOn": created, "runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    tree["MAR-INF/MANIFEST.json"] = json.dumps(manifest, indent=2).encode()
    tree["handler.py"] = entry("torchserve_handler")
    write({f"{name}.mar": _archive(tree)}, directory)


def _archive(tree: Mapping[str, bytes]) -> bytes:
    """Return a zip whose bytes follow from its files alone: no clock, no compression that differs by library."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(tree):
            info = zipfile.ZipInfo(name)  # 1980-01-01, the first day of the format
            info.create_system, info.external_attr = 3, _MODE
            archive.writestr(info, tree[name])
    return buffer.getvalue()
