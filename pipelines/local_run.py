"""Run a shipped pipeline on this machine for an order of start_retraining: what CUSTODY_RETRAIN_COMMAND names.

    python -m kfp_custody.pipelines.local_run ORDER.json FOLDER

ORDER.json holds `pipeline` and `parameters`; the artifacts are left in FOLDER/artifacts. Every task is a process of its
own, with this process's environment. Whether the pipeline is here in the `version` that the order names is for whoever
set the command to know: on one machine there is one.
"""

import json
import sys
from importlib import import_module
from pathlib import Path


def main(order: str, folder: str) -> int:
    """Run the pipeline; returns 1 when a task failed."""
    from kfp import local

    from kfp_custody.pipelines.platform import without_retries

    asked = json.loads(Path(order).read_text(encoding="utf-8"))
    name = str(asked["pipeline"]).replace("-", "_")
    pipeline = getattr(import_module(f"kfp_custody.pipelines.{name}.pipeline"), name)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(Path(folder, "artifacts")))
    try:
        without_retries(pipeline)(**asked["parameters"])
    except RuntimeError as failed:  # how kfp.local says that a task failed; the task has said why
        print(failed, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
