"""Write release copies of all YAML that name the images by digest: after `build_images.py`, and after the push.

    python scripts/pin_images.py --out dist/pinned
    python scripts/pin_images.py --prefix registry.example.org/ml --out dist/pinned

The digests are those by which the registry took the images, as the engine remembers them. OUT gets images.json (image
as the sources name it -> digest) and the folders ir, elyra and gitops. The sources stay: an image holds the package,
so the package cannot hold the image's digest.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from kfp_custody.components import CATALOG
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, Misconfigured
from kfp_custody.components._shared.images import PREFIX, VERSION, image
from kfp_custody.pipelines.containers import connect, require_image


def main(argv: list[str] | None = None) -> int:
    """Write the copies; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--prefix", default=PREFIX, help="registry and path that the images were pushed to")
    arguments = parser.parse_args(argv)
    try:
        pins = pushed(arguments.prefix)
        arguments.out.mkdir(parents=True)
    except (CustodyError, FileExistsError) as refusal:
        print(f"REFUSED {type(refusal).__name__}: {refusal}", file=sys.stderr)
        return 1
    record = arguments.out / "images.json"
    record.write_text(json.dumps(pins, indent=2, sort_keys=True) + "\n")
    command = [sys.executable, "-m", "kfp_custody.components._cli.main", "compile", "--pins", str(record)]
    command += [] if arguments.prefix == PREFIX else ["--image-prefix", arguments.prefix]
    for form in ("ir", "elyra", "gitops"):
        subprocess.run([*command, "--format", form, "--out", str(arguments.out / form)], check=True)
    return 0


def pushed(prefix: str) -> dict[str, str]:
    """Return each image, as the sources name it, and the digest that it has in a registry.

    Raises:
        Misconfigured: An image is not here, or was not pushed there.
        ServiceUnreachable: No engine answers.
    """
    client, pins = connect(), {}
    for room in dict.fromkeys((*CATALOG.values(), "serving")):
        place = f"{prefix}/custody-{room.replace('_', '-')}"
        require_image(client, f"{place}:{VERSION}")
        names = client.images.get(f"{place}:{VERSION}").attrs["RepoDigests"]
        digest = next((name.partition("@")[2] for name in names if name.startswith(f"{place}@")), None)
        if digest is None:
            raise Misconfigured(
                "An image has no digest yet, because it was not pushed.",
                evidence=f"{place}:{VERSION} is here, and no registry is known to have taken it",
                remedy="Push it (docker push), then pin.",
                code=codes.IMAGE_MISSING,
            )
        pins[image(room)] = digest
    return pins


if __name__ == "__main__":
    sys.exit(main())
