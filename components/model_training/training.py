"""Train on attested bytes: the order of the stage, from verified evidence to signed provenance."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from kfp_custody.components._shared.digests import Listing, list_tree, sha256_file
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import ATTESTATION, now, write_evidence
from kfp_custody.components._shared.files import atomic_directory, write_atomic
from kfp_custody.components._shared.settings import Settings, load_settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.model_training.dataset import read_labels, read_table, split_rows
from kfp_custody.components.model_training.events import write_events
from kfp_custody.components.model_training.features import model_frame, select_features
from kfp_custody.components.model_training.fitting import Data, Fit, fit_model
from kfp_custody.components.model_training.lineage import Lineage
from kfp_custody.components.model_training.report import render
from kfp_custody.components.model_training.saving import require_faithful, save_model
from kfp_custody.components.model_training.tracking import tracked_run
from kfp_custody.components.model_training.trainers import load_trainer

_CHECKED_ROWS = 1000  # of the test part, scored again with the saved model


@dataclass(frozen=True)
class Parameters:
    """What the user of the pipeline chooses; the component describes each."""

    label: str = "is_fraud"
    time_column: str = "timestamp"
    algorithm: str = "xgboost"
    trainer: str = ""
    seed: int = 7
    test_share: float = 0.25


@dataclass(frozen=True)
class Outputs:
    """Where the outputs go: three directories and the HTML file."""

    model: Path
    provenance: Path
    tensorboard: Path
    report: Path


@dataclass(frozen=True)
class Trained:
    """What the component records.

    `roc` is three lists of at most 200 points: false positive rate, true positive rate, threshold. `confusion` has a
    row for each true class of `classes`. `metadata` names the model, its dataset and its MLflow run.
    """

    metrics: dict[str, float]
    roc: tuple[list[float], list[float], list[float]]
    classes: list[str]
    confusion: list[list[int]]
    metadata: dict[str, str]


def train(
    dataset: Path,
    attestation: Path,
    outputs: Outputs,
    parameters: Parameters,
    run_id: str,
    settings: Settings | None = None,
) -> Trained:
    """Verify, train, save, log and sign, in this order; the outputs appear together, the provenance last.

    Args:
        dataset: The masked dataset: a directory of Parquet files.
        attestation: The evidence directory that speaks for its bytes.
        outputs: Where everything is written.
        parameters: What the user chose.
        run_id: The pipeline run that the attestation must belong to.
        settings: The environment; read from the process when None.

    Raises:
        EvidenceInvalid: the attestation, or a byte of the dataset, is not as it must be.
        InputRefused: the data cannot be trained on, or the model cannot be saved.
        ServiceUnreachable: MLflow does not answer.
        Misconfigured: a parameter, the trainer, a key or the environment is wrong.
        OSError: a file cannot be read or written.
    """
    started = now()
    settings = settings or load_settings()
    _check(parameters, run_id)
    trainer = load_trainer(parameters.algorithm, parameters.trainer)
    signer = load_signer(settings.signer_uri("model_training"))
    evidence = read_evidence(attestation, ATTESTATION, load_trust(settings.trust_file), run_id=run_id)
    listing = require_subject(evidence, dataset, "dataset")
    data = _read(dataset, listing, parameters)
    with (
        tracked_run(f"train-{run_id}") as run,
        atomic_directory(outputs.provenance) as provenance_dir,  # entered first, so renamed last
        atomic_directory(outputs.tensorboard) as events_dir,
        atomic_directory(outputs.model) as model_dir,
    ):
        fit = fit_model(trainer, data, parameters.seed)
        saved_as = _save(model_dir, fit, data, parameters.label)
        write_events(events_dir, fit.metrics, fit.rounds, data.labels[data.split.test], fit.probabilities)
        model = list_tree(model_dir)
        lineage = Lineage(run_id, started, asdict(parameters), listing, evidence, trainer, model, run, settings)
        run.log(asdict(parameters), fit.metrics, lineage.tags())
        run.log_rounds(fit.rounds)
        run.log_dataset("dataset", listing.sha256, len(data.labels), evidence.bundle_sha256)
        run.log_files(model_dir, "model")

        document = _document(fit, data)
        page = render(
            fit.evaluation, fit.metrics, fit.rounds, data.selection.features, data.selection.dropped, lineage.facts()
        ).encode()
        bundle = write_evidence(provenance_dir, lineage.statement(fit.metrics, document, page), signer, model, document)
        run.log({}, {}, {"custody.provenance.sha256": sha256_file(bundle)})
        run.log_files(provenance_dir, "evidence")
        write_atomic(outputs.report, page)
    roc = fit.evaluation.roc
    return Trained(
        metrics=fit.metrics,
        roc=(roc.xs, roc.ys, roc.thresholds),
        classes=["0", "1"],
        confusion=fit.evaluation.confusion,
        metadata={
            "sha256": model.sha256,
            "format": saved_as,
            "trainer": trainer.name,
            "dataset_sha256": listing.sha256,
            "mlflow_run_id": run.run_id,
        },
    )


def _check(parameters: Parameters, run_id: str) -> None:
    faults = [
        fault
        for fault, wrong in (
            ("run_id is empty", not run_id),
            ("label is empty", not parameters.label),
            ("label and time_column are the same column", parameters.label == parameters.time_column),
            (f"test_share={parameters.test_share} is not between 0 and 1", not 0 < parameters.test_share < 1),
            (f"seed={parameters.seed} is not from 0 to 2^32-1", not 0 <= parameters.seed < 2**32),
        )
        if wrong
    ]
    if faults:
        raise Misconfigured(
            "A parameter of train_model is wrong.", evidence="; ".join(faults), remedy="Correct it and run again."
        )


def _read(dataset: Path, listing: Listing, parameters: Parameters) -> Data:
    """Read the verified rows and prepare them; the frame holds only what the model may see."""
    table = read_table(dataset, listing)
    labels = read_labels(table, parameters.label)
    split = split_rows(table, labels, parameters.time_column, parameters.test_share, parameters.seed)
    selection = select_features(table, split.train, parameters.label, parameters.time_column)
    return Data(model_frame(table, selection.features), labels, split, selection)


def _save(model_dir: Path, fit: Fit, data: Data, label: str) -> str:
    """Save the model, read it back, and return its format."""
    threshold = fit.evaluation.metrics["threshold"]
    saved_as = save_model(model_dir, fit.estimator, data.selection.features, label=label, threshold=threshold)
    rows = data.split.test[:_CHECKED_ROWS]
    require_faithful(model_dir, data.frame.iloc[rows], fit.probabilities[: len(rows)])
    return saved_as


def _document(fit: Fit, data: Data) -> bytes:
    """Return `report.json`."""
    document = {
        "metrics": fit.metrics,
        "confusion": fit.evaluation.confusion,
        "features": [feature.name for feature in data.selection.features],
        "dropped": data.selection.dropped,
    }
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
