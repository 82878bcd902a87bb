"""Where the images live and which version they have, said once.

The tag is the package's version; a release writes digests into its own copies of the YAML, never into the sources
(an image holds the package, so the package cannot hold the image's digest).
"""

PREFIX = "ghcr.io/kfp-custody"
VERSION = "0.1.0"


def image(room: str) -> str:
    """Return the image of a room: `image("pii_masking")` is `<prefix>/custody-pii-masking:<version>`."""
    return f"{PREFIX}/custody-{room.replace('_', '-')}:{VERSION}"
