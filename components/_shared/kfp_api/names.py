"""How long a name may be: Kubeflow Pipelines counts bytes, and cuts or refuses what is longer."""

from typing import Final

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused

# backend/src/apiserver/validation/length.go of Kubeflow Pipelines 2.17; a display name is a VARCHAR(255).
PIPELINE: Final = 128
VERSION: Final = 127
EXPERIMENT: Final = 128
DISPLAY: Final = 255


def require_name(what: str, name: str, limit: int) -> str:
    """Return a name that fits.

    Raises:
        InputRefused: it is empty, has control characters, or more bytes than `limit`.
    """
    size = len(name.encode(errors="replace"))
    if not name.strip() or not name.isprintable() or size > limit:
        raise InputRefused(
            f"The name of the {what} does not fit.",
            evidence=f"it has {size} bytes; Kubeflow Pipelines takes 1 to {limit}, all of them printable",
            remedy="Choose another name.",
            code=codes.NAME_LENGTH,
        )
    return name
