"""What masking leaves of the signal: a fraud model on masked data beside the same model on the raw data, in one run.

Two models, both of the training room with its default algorithm, on the demo's month of transactions:

- the reference model, on the columns that the pipeline trains on;
- a model that knows of each transaction only its amount and hour and what the card did before: how often in the last
  day, how long ago, how much on average. These are computed from the card's column, so they need equal cards to stay
  equal. Beside it stands Presidio's own way to make pseudonyms, the operator `hash` as it comes, whose salt is another
  one for each cell.

The figure is the area under the precision-recall curve (average precision) on the latest fifth of the month.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _masking import mask
from _table import Result, publish

from kfp_custody.components.model_training.dataset import read_labels, split_rows
from kfp_custody.components.model_training.features import describe, model_frame, select_features
from kfp_custody.components.model_training.fitting import Data, fit_model
from kfp_custody.components.model_training.trainers import load_trainer
from kfp_custody.pipelines.fraud_detection.sample_data import write_month
from kfp_custody.pipelines.fraud_detection.tables import FILE

POLICY, ALGORITHM, SEED, TEST_SHARE = "card-transactions", "xgboost", 7, 0.2
LABEL, TIME = "is_fraud", "timestamp"
DAY = 86_400 * 1_000_000  # microseconds
GOAL = 0.01
PEER = "Presidio's hash operator"


def main() -> int:
    """Mask a month, train on both, compare."""
    with tempfile.TemporaryDirectory() as scratch:
        month = write_month(Path(scratch) / "month").dataset
        raw, masked = pq.read_table(month / FILE), mask(month, Path(scratch) / "work", POLICY)
    reference = [average_precision(table) for table in (raw, masked)]
    cards = [table["card_number"].to_pylist() for table in (raw, masked)]
    by_card = [average_precision(card_table(raw, card)) for card in (*cards, presidio_hashes(cards[0]))]
    print(f"average precision, reference model: raw {reference[0]:.4f}, masked {reference[1]:.4f}")
    print(f"by card: raw {by_card[0]:.4f}, masked {by_card[1]:.4f}, {PEER} {by_card[2]:.4f}")
    unit = "off the raw data's"
    return (
        0
        if publish(
            "masking_signal",
            [
                Result("reference model", abs(reference[1] - reference[0]), None, unit, GOAL, most=True),
                Result(
                    "model by card",
                    abs(by_card[1] - by_card[0]),
                    abs(by_card[2] - by_card[0]),
                    unit,
                    GOAL,
                    most=True,
                    peer_name=PEER,
                ),
            ],
        )
        else 1
    )


def average_precision(table: pa.Table) -> float:
    """Train as the pipeline does; return how the model does on the latest rows."""
    labels = read_labels(table, LABEL)
    split = split_rows(table, labels, TIME, TEST_SHARE, SEED)
    features = select_features(table, split.train, LABEL, TIME).features
    frame = model_frame(table, features)
    data = Data(frame, labels, split, select_features(table, split.train, LABEL, TIME))
    assert describe(frame) == features
    return fit_model(load_trainer(ALGORITHM, ""), data, SEED).metrics["average_precision"]


def card_table(raw: pa.Table, cards: list[str]) -> pa.Table:
    """Return amount and hour of each transaction, and what its card did before.

    Args:
        raw: The month, whose times and amounts are the same in all versions.
        cards: Of each row the card, as itself or as a pseudonym.
    """
    times = raw[TIME].cast(pa.int64()).to_numpy()
    amounts = raw["amount"].to_numpy()
    count, waited, ratio = (np.zeros(len(times)) for _ in range(3))
    seen: dict[str, list[Any]] = {}
    for row in np.argsort(times, kind="stable").tolist():
        past = seen.setdefault(cards[row], [[], 0.0, 0])
        recent = [time for time in past[0] if time > times[row] - DAY]
        count[row] = len(recent)
        waited[row] = times[row] - past[0][-1] if past[0] else DAY * 60
        ratio[row] = amounts[row] / (past[1] / past[2]) if past[2] else 1.0
        seen[cards[row]] = [[*recent, int(times[row])], past[1] + float(amounts[row]), past[2] + 1]
    columns = {TIME: raw[TIME], LABEL: raw[LABEL], "amount": raw["amount"], "hour": raw["hour"]}
    return pa.table(columns | {"card_count": count, "card_waited": waited, "card_ratio": ratio})


def presidio_hashes(cards: list[str]) -> list[str]:
    """Return what Presidio's anonymizer makes of each cell that is a card number as a whole."""
    from presidio_anonymizer import AnonymizerEngine
    from presidio_anonymizer.entities import OperatorConfig, RecognizerResult

    engine, operators = AnonymizerEngine(), {"DEFAULT": OperatorConfig("hash")}
    return [
        str(engine.anonymize(card, [RecognizerResult("CREDIT_CARD", 0, len(card), 1.0)], operators).text)
        for card in cards
    ]


if __name__ == "__main__":
    raise SystemExit(main())
