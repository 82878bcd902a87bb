"""The contract of scan_model."""

from kfp import dsl
from kfp.dsl import HTML, Input, Metrics, Output

from kfp_custody.components._shared.artifacts import TestResult, TrainedModel, TrainingProvenance
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("model_scanning"), install_kfp_package=False)
def scan_model(
    model: Input[TrainedModel],
    provenance: Input[TrainingProvenance],
    evidence: Output[TestResult],
    report: Output[HTML],
    metrics: Output[Metrics],
    run_id: str,
    allow_list: str = "default",
) -> str:
    """Look through a model's files for whatever would run code when they are loaded; nothing is loaded.

    Args:
        model: The trained model.
        provenance: The training provenance that train_model left about it.
        run_id: The pipeline run, from dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        allow_list: Name of an allow-list that ships with the room, or the path of one in the image.

    Returns:
        evidence: Signed test result about the model, with report.json.
        report: Each file with its format and what was found, worst first.
        metrics: Files, items in them, how many were denied, could not be read, or warned.
        Output: PASSED, WARNED or FAILED.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary
    from kfp_custody.components._shared.settings import load_settings

    with boundary():
        from kfp_custody.components.model_scanning import stage

        made = stage.Outputs(Path(evidence.path), Path(report.path))
        given = (Path(model.path), Path(provenance.path), made, load_settings())
        outcome = stage.run(*given, run_id=run_id, allow_list=allow_list)
    metrics.metadata.update(outcome.metrics)
    evidence.metadata["verdict"] = outcome.verdict
    return outcome.verdict
