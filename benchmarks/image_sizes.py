"""Sizes of the images: beside the same stages installed the plain way, and beside what their locks name.

The plain way is one layer on the same base: `pip install 'kfp-custody[<room>,vault,keyless]'` in the locked versions,
with KFP's own requirements, as anybody would write it who needs the stage in a container (and knows --no-cache-dir).
Both sizes are the engine's. Needs a running engine and `make images`.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from _table import ROOT, Result, publish

from kfp_custody.components import CATALOG
from kfp_custody.components._shared.images import VERSION, image
from kfp_custody.pipelines.containers import base_of, connect

SUMMARY = ROOT / "build" / "containers" / "summary.json"
SIGNERS = "vault,keyless"
SLOW = ("mask_pii", "mask_shard", "train_model")  # they load spaCy or MLflow: no goal is set for them


def main() -> int:
    """Build every stage the plain way, compare, and remove it again."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from build_images import MOUNTS, build_environment, find_builder

    client, builder = connect(), find_builder("docker")
    told = json.loads(SUMMARY.read_text()).get("images") if SUMMARY.is_file() else None
    if not told:
        print("\nimage_sizes: no run in containers that passed yet; run `make containers` first")
        return 1
    results = []
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        wheel = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(context), str(ROOT)]
        subprocess.run(wheel, check=True, stdout=subprocess.DEVNULL)
        lock = (ROOT / "images/locks/local.txt").read_text().splitlines()
        versions = [line.split(" ")[0] for line in lock if "==" in line and line[0] != " "]
        (context / "versions.txt").write_text("\n".join(versions))
        for room in dict.fromkeys((*CATALOG.values(), "serving")):
            extra, name = room.replace("_", "-"), f"localhost/plain-{room.replace('_', '-')}"
            (context / "Dockerfile").write_text(plain(extra, base_of(client, image(room))))
            command = [builder, "build", "--network=host", "-t", name]
            for key, path in MOUNTS.items():
                command += ["--secret", f"id={key},src={path}"] if path and Path(path).is_file() else []
            subprocess.run([*command, str(context)], check=True, env=build_environment(), capture_output=True)
            ours, theirs = (client.images.get(one).attrs["Size"] / 1e6 for one in (image(room), name))
            client.images.remove(name, force=True)
            wheels = (told[room]["base"] + told[room]["bytes"]) / 1e6
            peers = {"pip install in one layer": (theirs, 1.0), "base + locked wheels": (wheels, 1.15)}
            for peer, (size, goal) in peers.items():
                results.append(Result(extra, round(ours), round(size), "MB", goal, True, peer, relative=True))
            results += [
                Result(
                    f"{function}, to its first line",
                    seconds,
                    None,
                    "s",
                    goal=None if function in SLOW else 1.5,
                    most=True,
                )
                for function, seconds in told[room]["start_seconds"].items()
            ]
    return 0 if publish("image_sizes", results) else 1


def plain(extra: str, base: str) -> str:
    """Return the Dockerfile of a stage as anybody would write it."""
    index = "; ".join(
        f"[ ! -s /run/secrets/{name} ] || export {variable}=/run/secrets/{name}"
        for name, variable in (("ca", "PIP_CERT"), ("pip", "PIP_CONFIG_FILE"))
    )
    return f"""FROM {base}
COPY kfp_custody-{VERSION}-py3-none-any.whl versions.txt /tmp/
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip {index}; python3 -m venv /opt/stage && \\
    /opt/stage/bin/pip install --no-cache-dir -q -c /tmp/versions.txt \\
      "/tmp/kfp_custody-{VERSION}-py3-none-any.whl[{extra},{SIGNERS}]" && \\
    /opt/stage/bin/pip uninstall -q -y pip
"""


if __name__ == "__main__":
    assert shutil.which("docker"), "a container engine is needed"
    sys.exit(main())
