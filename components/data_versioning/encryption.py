"""Encryption at rest, required by the platform and checked for every object.

Every cloud encrypts by itself nowadays, so what matters is with whose key: the levels are `any` (not asked), `sse` (the
store says that it encrypted the object) and `cmk` (with a key whose name matches a pattern). What counts is what the
store says of the very object that was read; a bucket's rule is only about objects that were written after it.
"""

import re
from dataclasses import dataclass

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import PolicyRefused

LEVELS = ("any", "sse", "cmk")


@dataclass(frozen=True)
class AtRest:
    """What a store says of an object: algorithm (None: not encrypted, or not said) and name of the key (None: its own).

    S3: the header's algorithm and the key's ARN. GCS: `AES256` and the key's resource name. Azure: `AES256` and
    `scope:<encryption scope>`.
    """

    algorithm: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Encryption:
    """What the platform demands: the level, and for `cmk` a pattern in which `*` is anything but `/` and `:`."""

    level: str
    key: str = ""

    def require(self, name: str, found: AtRest) -> None:
        """Refuse an object that is not encrypted as demanded.

        Raises:
            PolicyRefused: naming the object, what was found and what is wanted.
        """
        if self.level == "any" or (self.level == "sse" and found.algorithm):
            return
        if self.level == "cmk" and found.algorithm and found.key and self._matches(found.key):
            return
        raise PolicyRefused(
            "An object is not encrypted at rest as the platform demands.",
            evidence=f"{name!a}: found {found.algorithm or 'no encryption'}"
            f"{f' with key {found.key}' if found.key else ''},"
            f" wanted {self.level}{f' with key {self.key}' if self.key else ''}",
            remedy="Write the object again with that encryption; a rule of the bucket changes no object that is there.",
            code=codes.NOT_ENCRYPTED,
        )

    def _matches(self, key: str) -> bool:
        pattern = "[^/:]*".join(re.escape(part) for part in self.key.split("*"))
        return re.fullmatch(pattern, key) is not None
