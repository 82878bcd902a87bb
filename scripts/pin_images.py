"""Write release copies of all YAML that name the images by digest: after `build_images.py`, and after the push.

    python scripts/pin_images.py --out dist/pinned
    python scripts/pin_images.py --prefix registry.example.org/ml --out dist/pinned

The digests are those by which the registry has the images, which must be those that are here. OUT gets images.json
(image as the sources name it -> digest) and the folders ir, elyra, gitops and manifests (but for its pipelines, which
are in gitops). The sources stay: an image holds the package, so the package cannot hold the image's digest.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kfp_custody.components import CATALOG
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError, Misconfigured
from kfp_custody.components._shared.images import PREFIX, VERSION, image
from kfp_custody.pipelines.containers import connect, require_image

MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"


def main(argv: list[str] | None = None) -> int:
    """Write the copies; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--prefix", default=PREFIX, help="registry and path that the images were pushed to")
    arguments = parser.parse_args(argv)
    try:
        if arguments.out.exists():
            raise Misconfigured(
                "The folder for the copies exists already.",
                evidence=str(arguments.out),
                remedy="Remove it, or give another --out.",
                code=codes.COMPILE_OUTPUT,
            )
        pins = pushed(arguments.prefix)
    except CustodyError as refusal:
        print(f"REFUSED {type(refusal).__name__}: {refusal}", file=sys.stderr)
        return 1
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out.parent) as folder:
        made = Path(folder, "made")
        made.mkdir()
        record = made / "images.json"
        record.write_text(json.dumps(pins, indent=2, sort_keys=True) + "\n")
        command = [sys.executable, "-m", "kfp_custody.components._cli.main", "compile", "--pins", str(record)]
        command += [] if arguments.prefix == PREFIX else ["--image-prefix", arguments.prefix]
        for form in ("ir", "elyra", "gitops"):
            done = subprocess.run([*command, "--format", form, "--out", str(made / form)], stdout=subprocess.DEVNULL)
            if done.returncode:  # it has said why
                return done.returncode
        pin_manifests(made / "manifests", arguments.prefix, pins[image("serving")], pins[image("retraining")])
        made.rename(arguments.out)
    print(arguments.out)
    return 0


def pin_manifests(target: Path, prefix: str, digest: str, webhook: str) -> None:
    """Copy the manifests, the model server's image as `<prefix>/custody-serving@<digest>`, the webhook's by its own.

    The admission policies take every digest from that prefix, not this one alone: a version that an earlier release
    deployed must stay possible to write, or nothing could be rolled back after an upgrade.
    """
    shutil.copytree(MANIFESTS, target, ignore=shutil.ignore_patterns("pipelines"))
    names = {
        image("serving"): f"{prefix}/custody-serving@{digest}",
        image("retraining"): f"{prefix}/custody-retraining@{webhook}",
        _expression(PREFIX) + "/custody-serving@": _expression(prefix) + "/custody-serving@",
    }
    for path in sorted(target.rglob("*.yaml")):
        text = path.read_text()
        for name, pinned in names.items():
            text = text.replace(name, pinned)
        path.write_text(text)


def _expression(prefix: str) -> str:
    """Return a prefix as it stands in a CEL expression: of what a registry's name may hold, only the dot is special."""
    return prefix.replace(".", "[.]")


def pushed(prefix: str) -> dict[str, str]:
    """Return each image, as the sources name it, and the digest that it has in a registry.

    Raises:
        Misconfigured: An image is not here, was not pushed there, or is of another revision than the others.
        ServiceUnreachable: No engine answers.
    """
    import docker

    client, pins, revisions = connect(), {}, set()
    for room in dict.fromkeys((*CATALOG.values(), "serving")):
        place = f"{prefix}/custody-{room.replace('_', '-')}"
        require_image(client, f"{place}:{VERSION}")
        found = client.images.get(f"{place}:{VERSION}").attrs
        try:
            digest = client.images.get_registry_data(f"{place}:{VERSION}").id
        except docker.errors.APIError:  # the registry does not answer, or has no such image
            digest = ""
        if f"{place}@{digest}" not in found["RepoDigests"]:
            raise Misconfigured(
                "The image that is here is not the one in the registry, or was not pushed.",
                evidence=f"{place}:{VERSION}: the registry has {digest or 'none'}",
                remedy="Push it (docker push), then pin.",
                code=codes.IMAGE_MISSING,
            )
        pins[image(room)] = digest
        revisions.add(found["Config"]["Labels"].get("org.opencontainers.image.revision", ""))
    if len(revisions) != 1:
        raise Misconfigured(
            "The images were not built from one revision.",
            evidence=", ".join(sorted(revision or "no revision" for revision in revisions)),
            remedy="Build all of them from one clean checkout, push, then pin.",
            code=codes.IMAGE_PINS,
        )
    return pins


if __name__ == "__main__":
    sys.exit(main())
