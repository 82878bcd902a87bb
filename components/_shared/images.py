"""Where the images live and which version they have, said once.

The tag is the package's version; a release writes digests into its own copies of the YAML, never into the sources
(an image holds the package, so the package cannot hold the image's digest).
"""

PREFIX = "ghcr.io/kfp-custody"
VERSION = "0.1.0"
VERIFIED = "2026-11-25T00:00:00Z"
"""When this version was last verified as a whole: moved with the version, never read from a clock."""


def image(room: str) -> str:
    """Return the image of a room: `image("pii_masking")` is `<prefix>/custody-pii-masking:<version>`."""
    return f"{PREFIX}/custody-{room.replace('_', '-')}:{VERSION}"
