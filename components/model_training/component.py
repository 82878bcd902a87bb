"""The KFP component train_model."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Input, Metrics, Output

from kfp_custody.components._shared.artifacts import DatasetAttestation, MaskedDataset, TrainedModel, TrainingProvenance
from kfp_custody.components._shared.images import image


@dsl.component(base_image=image("model_training"), install_kfp_package=False)
def train_model(
    dataset: Input[MaskedDataset],
    attestation: Input[DatasetAttestation],
    model: Output[TrainedModel],
    provenance: Output[TrainingProvenance],
    metrics: Output[Metrics],
    roc: Output[ClassificationMetrics],
    report: Output[HTML],
    tensorboard: Output[Artifact],
    run_id: str,
    label: str = "is_fraud",
    time_column: str = "timestamp",
    algorithm: str = "xgboost",
    trainer: str = "",
    seed: int = 7,
    test_share: float = 0.25,
) -> None:
    """Train a binary classifier on exactly the bytes that were attested, with lineage in MLflow.

    The attestation is verified and the dataset hashed again before the first row is read. The model is saved without
    pickle, the run logged to MLflow (joining the run of MLFLOW_RUN_ID when there is one), and how the model was made is
    signed.

    Args:
        dataset: The masked dataset: a directory of Parquet files.
        attestation: The signed attestation of the dataset's bytes, of this run.
        run_id: The pipeline run (dsl.PIPELINE_JOB_ID_PLACEHOLDER); evidence of another run is refused.
        label: The column to predict, 0 or 1.
        time_column: A time or number to split by, the latest rows being tested on; empty for a stratified split.
        algorithm: One of logistic_regression, random_forest, hist_gradient_boosting, xgboost.
        trainer: Your own 'module:function' instead of algorithm; see the room's README.
        seed: Of everything random.
        test_share: Share of the rows that the model is tested on, between 0 and 1.

    Returns:
        model: The model directory: model.ubj (XGBoost) or model.skops (scikit-learn), and signature.json.
        provenance: Signed SLSA provenance of the model, with the digests of all that went in and the metrics.
        metrics: Figures on the test part, the decision threshold and the sizes of both parts.
        roc: ROC curve and confusion matrix on the test part.
        report: Curves, calibration, features used and columns left out with the reason.
        tensorboard: Directory of TensorBoard event files.
    """
    from pathlib import Path

    from kfp_custody.components._shared.errors import boundary

    with boundary():
        from kfp_custody.components.model_training.training import Outputs, Parameters, train

        outputs = Outputs(Path(model.path), Path(provenance.path), Path(tensorboard.path), Path(report.path))
        parameters = Parameters(label, time_column, algorithm, trainer, seed, test_share)
        trained = train(Path(dataset.path), Path(attestation.path), outputs, parameters, run_id)
        model.metadata.update(trained.metadata)
        metrics.metadata.update(trained.metrics)
        roc.log_roc_curve(*trained.roc)
        roc.log_confusion_matrix(trained.classes, trained.confusion)
