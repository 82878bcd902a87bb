"""Finding the artifacts that evidence speaks of, where they lie near it."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from kfp_custody.components._shared.digests import Listing, list_tree, read_listing
from kfp_custody.components._shared.documents import DocumentFault, read_document
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.evidence import LISTING_NAME

# Where a stage of a pipeline leaves its artifact, beside its evidence: mask_pii, train_model.
MASKED, TRAINED = "masked", "model"
_MAX_LISTING = 256 * 1024 * 1024


def listing_beside(directories: Sequence[Path]) -> Listing | None:
    """Return the listing that lies in one of these evidence directories; not verified, only to look by."""
    for directory in directories:
        with suppress(DocumentFault, CustodyError, OSError):
            return read_listing(read_document(directory / LISTING_NAME, _MAX_LISTING), LISTING_NAME)
    return None


def locate(
    beside: Sequence[Path], usual: str, listing: Listing | None, folders: Sequence[Path], others: Collection[str]
) -> Path | None:
    """Return the folder that is, or should be, an artifact; None when nothing there can be it.

    That is the usual place beside its evidence; else a folder with the very bytes of the listing; else one that holds
    a file of a listed name and is no other artifact of the chain, so that changed bytes are refused, not passed over.

    Args:
        beside: The evidence directories that speak of the artifact.
        usual: Name of the artifact's folder beside them.
        listing: What the artifact should be, as far as it is known.
        folders: All folders that may be it.
        others: Digests of the chain's other artifacts.
    """
    for directory in beside:
        place = directory.parent / usual
        if place.is_symlink() or place.exists():
            return place
    if listing is None:
        return None
    names = [entry.name for entry in listing.entries]
    digests = {folder: _digest(folder) for folder in folders if any((folder / name).is_file() for name in names)}
    same = [folder for folder, digest in digests.items() if digest == listing.sha256]
    changed = [folder for folder, digest in digests.items() if digest not in others]
    return next(iter([*same, *changed]), None)


def _digest(folder: Path) -> str:
    try:
        return list_tree(folder).sha256
    except CustodyError:  # it cannot be listed, so it is none of the artifacts; the check of the bytes says why
        return ""
