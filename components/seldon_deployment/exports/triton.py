"""An admitted model as a model repository of NVIDIA Triton, for its Python backend."""

from pathlib import Path

from kfp_custody.components._shared.scoring import Signature
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.exports.layout import contents, entry, write

_OUTPUTS = {"probability": "TYPE_FP64", "label": "TYPE_INT64", "version": "TYPE_STRING"}


def export_triton(admitted: Admitted, name: str, directory: Path) -> None:
    """Write `<name>/config.pbtxt` and `<name>/1/` with model.py, the pins and the signed model.

    Args:
        admitted: what `require_admitted` returned.
        name: name of the model in the repository.
        directory: the model repository to make.

    Raises:
        EvidenceInvalid: bytes changed since the model was admitted.
        InputRefused: the model's own signature file cannot be read.
        PolicyRefused: the model has files that nothing reads.
        Misconfigured: the directory exists, or the name is no DNS label.
        OSError: a file cannot be read or written.
    """
    files, signature = contents(admitted, name)
    tree = {f"{name}/1/{file}": data for file, data in files.items()}
    tree[f"{name}/1/model.py"] = entry("triton_model")
    tree[f"{name}/config.pbtxt"] = _config(name, signature).encode()
    write(tree, directory)


def _config(name: str, signature: Signature) -> str:
    """Write the model's configuration: a tensor of shape [rows] each way; no batching by Triton, a request has rows."""
    inputs = {f.name: "TYPE_FP64" if f.type == "number" else "TYPE_STRING" for f in signature.features}
    lines = [f"name: {_quoted(name)}", 'backend: "python"', "max_batch_size: 0"]
    for side, tensors in (("input", inputs), ("output", _OUTPUTS)):
        lines += [f"{side} {{ name: {_quoted(key)} data_type: {kind} dims: [ -1 ] }}" for key, kind in tensors.items()]
    return "\n".join([*lines, "instance_group { kind: KIND_CPU count: 1 }", ""])


def _quoted(text: str) -> str:
    """Return a string of protobuf's text format: what is not plain ASCII as octal escapes of its UTF-8."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in "\"\\'" else f"\\{b:03o}" for b in text.encode())
    return f'"{"".join(plain)}"'
