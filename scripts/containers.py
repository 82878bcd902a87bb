"""Run the reference pipeline in its images, every stage locked down and with its own secrets only: `make containers`.

What is told of each image is read from it: its size beside the base and the wheels that its lock names, its packages,
and how long a task of it takes to reach the first line of the stage's logic. What is told of each container is
reported by the stage's own process. The summary is build/containers/summary.json, as the demo's, with `images` and
`processes` added.
"""

import ast
import contextlib
import inspect
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import demo

from kfp_custody import components
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.images import image
from kfp_custody.pipelines.containers import (
    CUSTODY_USER,
    LABEL,
    SCRATCH,
    Grant,
    Task,
    base_of,
    connect,
    containers,
    run_locked_down,
)

demo.DEMO = demo.ROOT / "build" / "containers"
SERVED_AT = 18081
TAMPER = ("none", "masked", "model", "evidence")  # what an attacker can reach here: the artifacts
PROBE = Path(__file__).with_name("container_probe")


class ContainerRun(demo.Run):
    """A run whose tasks are containers."""

    serving = "The model server's container is removed now."

    def __init__(self, tamper: str, secrets: Path, data: Path) -> None:
        """Say what each stage may see: its own secrets, the trust file, and where it has to write."""
        super().__init__(tamper, shards=1)
        self.home = demo.DEMO
        self.told = self.home / "processes"
        shutil.rmtree(self.told, ignore_errors=True)
        trust = {self.home / "trust.yaml": "/etc/custody/trust/trust.yaml", PROBE: "/probe"}
        sources = {self.home / "sources.yaml": "/etc/custody/trust/sources.yaml"}
        signing = {secrets / "pipeline.pem": "/etc/custody/signing/key.pem"}
        signer = {"CUSTODY_SIGNER": "file:/etc/custody/signing/key.pem"}

        def grant(read: dict[Path, str], write: dict[str, str], **environment: str) -> Grant:
            places = {self._writable(name): target for name, target in write.items()}
            probe = {"PYTHONPATH": "/probe"}
            return Grant({**trust, **read}, {**places, self._writable("processes"): "/told"}, {**environment, **probe})

        self.grants = {
            "fetch_dataset": grant({**signing, **sources, data: str(data)}, {}, **signer),
            "mask_pii": grant({**signing, secrets / "masking.key": "/etc/custody/masking/key"}, {}, **signer),
            "attest_dataset": grant(signing, {"dvc": "/var/dvc"}, **signer, CUSTODY_DVC_REMOTE="/var/dvc"),
            "train_model": grant(
                signing, {"mlflow": "/var/mlflow"}, **signer, MLFLOW_TRACKING_URI="sqlite:////var/mlflow/mlflow.db"
            ),
            "sign_model": grant(signing, {}, **signer),
            "profile_dataset": grant(signing, {}, **signer),
            "check_drift": grant(signing, {}, **signer),
            "enforce_policy": grant({secrets / "gate.pem": "/etc/custody/signing/key.pem"}, {}, **signer),
            "refuse": grant({}, {}),
            "deploy_model": grant(signing, {"serving": "/var/serving"}, **signer, CUSTODY_SERVING_DIR="/var/serving"),
        }

    def _writable(self, name: str) -> Path:
        path = self.home / name
        path.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            os.chown(path, CUSTODY_USER, CUSTODY_USER)
        return path

    @contextlib.contextmanager
    def runner(self) -> Iterator[None]:
        """Let kfp.local run every task in a container of its own."""

        def observe(task: Task, start: Any) -> int:
            return self.task(task.command, start)

        with containers(self.root / "artifacts", self.grants, observe):
            yield

    def endpoint(self) -> str:
        """Serve what was deployed from the model server's image, and have it load the model."""
        from kfp_custody.components.seldon_deployment.v2_client import call, model_url

        url = f"http://127.0.0.1:{SERVED_AT}"
        client = connect()
        self.server = client.containers.create(
            image("serving"),
            labels={LABEL: "serving"},
            user=f"{os.getuid() or CUSTODY_USER}",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            tmpfs={SCRATCH: "rw,nosuid,nodev,mode=1777"},
            mem_limit="2g",
            pids_limit=256,
            ports={"8080/tcp": ("127.0.0.1", SERVED_AT)},
            volumes={
                str(self.home / "serving" / "repository"): {"bind": "/mnt/models", "mode": "ro"},
                str(self.home / "trust.yaml"): {"bind": "/etc/custody/trust/trust.yaml", "mode": "ro"},
            },
        )
        self.server.start()
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(CustodyError):
                if call("POST", f"{url}/v2/repository/models/fraud-detection/load", timeout=30).status == 200:
                    return model_url(url, "fraud-detection")
            if time.monotonic() > deadline:
                raise SystemExit(f"the model server did not load the model:\n{self.server.logs().decode()[-3000:]}")
            time.sleep(0.5)


def main() -> int:
    """Run, then tell of the images and of the processes."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tamper", choices=TAMPER, default="none")
    arguments = parser.parse_args()
    demo.say("kfp-custody in containers: tamper", arguments.tamper)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that keys and containers are taken away then as well
    for left in connect().containers.list(all=True, filters={"label": f"{LABEL}=serving"}):
        left.remove(force=True)
    demo.set_up()
    training, current, parameters = demo.make_input("sample", arguments.tamper)
    with tempfile.TemporaryDirectory() as folder:
        secrets = Path(folder)
        keys = Path(os.environ["CUSTODY_MASKING_KEY"]).parent
        for name in ("pipeline.pem", "gate.pem", "masking.key"):
            shutil.copyfile(keys / name, secrets / name)
            (secrets / name).chmod(0o400)
            if os.getuid() == 0:
                os.chown(secrets / name, CUSTODY_USER, CUSTODY_USER)
        run = ContainerRun(arguments.tamper, secrets, demo.DEMO / "data")
        finished = run.execute(
            {
                **demo.months(training, current),
                "deploy_target": "local",
                **parameters,
            }
        )
        try:
            code = demo.conclude(run, finished)
        finally:
            if server := getattr(run, "server", None):
                server.remove(force=True)
    told = tell_processes(run)
    if code == 0:
        images = tell_images()
        path = demo.DEMO / "summary.json"
        summary = json.loads(path.read_text()) | {"images": images, "processes": told}
        path.write_text(json.dumps(summary, indent=2) + "\n")
    return code or int(not told)


def tell_processes(run: ContainerRun) -> list[dict[str, Any]]:
    """Print what each stage's process said of itself; empty when one is not locked down."""
    told = [json.loads(path.read_text()) for path in sorted(run.told.glob("*.json"))]
    head = ("process of", "uid", "root", "capabilities", "new privileges", "seccomp")
    demo.say("\n  {:<16} {:>6} {:<10} {:<13} {:<15} {:<8} network".format(*head))
    for one in told:
        demo.say(
            f"  {one['function']:<16} {one['uid']:>6} {one['root']:<10} {one['capabilities']:<13} "
            f"{one['new_privileges']:<15} {one['seccomp']:<8} {' '.join(one['network'])}"
        )
    expected = {stage.name.removesuffix("_present") for stage in run.stages}
    locked = all(
        (one["root"], one["capabilities"], one["new_privileges"], one["seccomp"], one["network"])
        == ("read-only", "none", "no", "filter", ["lo"])
        and one["uid"] != 0
        for one in told
    )
    return told if locked and {one["function"] for one in told} == expected else []


def tell_images() -> dict[str, dict[str, Any]]:
    """Print, for each image, its size, its packages, and when its stages start; returns the same."""
    client = connect()
    base = client.images.get(base_of(client, image("policy_gate"))).attrs["Size"]
    found: dict[str, dict[str, Any]] = {}
    demo.say(f"\n  {'image':<20} {'MB':>5} {'base + wheels':>14} {'packages':>9}  start of its stage")
    for room in dict.fromkeys((*components.CATALOG.values(), "serving")):
        name = image(room)
        size = client.images.get(name).attrs["Size"]
        wheels = json.loads(_in_image(client, name, _WHEELS))
        starts = {
            function: round(median(float(_in_image(client, name, _start_of(function))) for _ in range(3)), 2)
            for function, home in components.CATALOG.items()
            if home == room
        }
        found[room] = {"size": size, "base": base, **wheels, "start_seconds": starts}
        found[room]["ratio"] = round(size / (base + wheels["bytes"]), 3)
        demo.say(
            f"  {room:<20} {size / 1e6:>5.0f} {found[room]['ratio']:>12.2f} x {wheels['packages']:>9}  "
            + ", ".join(f"{function} {seconds:.2f} s" for function, seconds in starts.items())
        )
    return found


def _in_image(client: Any, name: str, code: str) -> str:
    with tempfile.TemporaryFile("w+") as log:
        status = run_locked_down(client, name, ["python3", "-c", code], {}, Grant(), log)
        log.seek(0)
        said = log.read()
    if status:
        raise SystemExit(f"{name}: {said[-2000:]}")
    return said.strip().splitlines()[-1]


# What the locked wheels hold, by their own records.
_WHEELS = """
import csv, importlib.metadata, json, pathlib
done = [d for d in importlib.metadata.distributions() if not d.metadata["Name"].startswith("kfp-custody")]
rows = [row for d in done for row in csv.reader((d.read_text("RECORD") or "").splitlines())]
print(json.dumps({"packages": len(done), "bytes": sum(int(row[2] or 0) for row in rows if len(row) == 3)}))
"""


def _start_of(function: str) -> str:
    """Return code that imports what a task of this function imports before its first line of logic, and says when."""
    source = inspect.getsource(getattr(components, function).python_func)
    body = ast.parse(source).body[0]
    imports = [ast.unparse(node) for node in ast.walk(body) if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = ["import os; os.environ['_KFP_RUNTIME'] = 'true'", "import kfp.dsl.executor_main", *imports]
    lines += ["ticks = int(open('/proc/1/stat').read().rpartition(')')[2].split()[19])"]
    lines += ["print(float(open('/proc/uptime').read().split()[0]) - ticks / os.sysconf('SC_CLK_TCK'))"]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CustodyError as refusal:
        demo.say(f"\nREFUSED {type(refusal).__name__}: {refusal}")
        sys.exit(1)
