"""Copies for a site: images from its own registry, and by digest."""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.documents import MAX_YAML, DocumentFault, parse_json, read_document
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.images import PREFIX, VERSION

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_RELEASED = re.compile(rf"{re.escape(PREFIX)}/custody-[a-z-]+:{re.escape(VERSION)}")


@dataclass(frozen=True)
class Images:
    """Where a site has the images. `pins`: image as it is named without these options -> digest; None pins nothing."""

    prefix: str = PREFIX
    pins: Mapping[str, str] | None = field(default=None)

    def named(self, image: str) -> str:
        """Return how the site names an image: ours below its prefix, every one by digest if there are pins.

        Raises:
            Misconfigured: there are pins, and none for this image.
        """
        name = f"{self.prefix}{image.removeprefix(PREFIX)}" if image.startswith(f"{PREFIX}/") else image
        if self.pins is None or "@" in image:
            return name
        if image not in self.pins:
            raise Misconfigured(
                "An image has no digest among the pins.",
                evidence=f"{image}, with {len(self.pins)} pins",
                remedy="Add it with the digest that your registry shows; all are pinned, or none.",
                code=codes.IMAGE_PINS,
            )
        folder, slash, last = name.rpartition("/")
        return f"{folder}{slash}{last.partition(':')[0]}@{self.pins[image]}"

    def in_spec(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Return a pipeline spec with its images as the site names them.

        Raises:
            Misconfigured: an image has no pin, or a pin is for an image that is neither released nor used here.
        """
        done = copy.deepcopy(spec)
        containers = [
            executor["container"]
            for executor in done.get("deploymentSpec", {}).get("executors", {}).values()
            if "container" in executor
        ]
        used = {container["image"] for container in containers}
        strangers = sorted(image for image in self.pins or () if image not in used and not _RELEASED.fullmatch(image))
        if strangers:
            raise Misconfigured(
                "A pin is for an image that is not known.",
                evidence=f"{strangers[0]!r} is neither used here nor {PREFIX}/custody-...:{VERSION}",
                remedy="Name images as they stand in the YAML that is compiled without --image-prefix and --pins.",
                code=codes.IMAGE_PINS,
            )
        for container in containers:
            container["image"] = self.named(container["image"])
        return done


def site_images(prefix: str | None, pins: Path | None) -> Images:
    """Read what the command line says of images.

    Raises:
        Misconfigured: the prefix is none, or the file of pins is not image -> digest.
        OSError: the file cannot be read.
    """
    if prefix is not None and not _PREFIX.fullmatch(prefix):
        raise Misconfigured(
            "The image prefix is no registry with a path.",
            evidence=f"{prefix[:120]!r}",
            remedy="Give it like registry.example.org/mirror: lower case, no scheme, no tag, no slash at the end.",
            code=codes.IMAGE_PREFIX,
        )
    return Images(prefix or PREFIX, None if pins is None else _read_pins(pins))


def _read_pins(path: Path) -> dict[str, str]:
    try:
        found = parse_json(read_document(path, MAX_YAML))
    except DocumentFault as fault:
        raise _unfit(path, str(fault), fault.code) from fault
    if not isinstance(found, dict) or not found:
        raise _unfit(path, "it is no object with at least one image")
    for image, digest in found.items():
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise _unfit(
                path, f"{image[:120]!r} has {str(digest)[:80]!r}, which is no sha256:<64 lower-case hex digits>"
            )
    return found


def _unfit(path: Path, why: str, code: str = codes.IMAGE_PINS) -> Misconfigured:
    return Misconfigured(
        "The pins cannot be used.",
        evidence=f"{path}: {why}",
        remedy=f'Write JSON like {{"{PREFIX}/custody-pii-masking:{VERSION}": "sha256:..."}}.',
        code=code,
    )
