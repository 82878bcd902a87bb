"""The generated months: the same bytes for the same seed, the promised columns, fraud that can be learned."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.pipelines.fraud_detection.memos import ENTITIES
from kfp_custody.pipelines.fraud_detection.people import luhn_digit
from kfp_custody.pipelines.fraud_detection.sample_data import (
    CATEGORICAL_FEATURES,
    LABEL,
    NUMERIC_FEATURES,
    write_month,
)
from kfp_custody.pipelines.fraud_detection.tables import DIRECT_IDENTIFIERS, SampleMonth

ROWS = 40_000
SCHEMA = {
    "transaction_id": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    **dict.fromkeys(DIRECT_IDENTIFIERS, pa.string()),
    "city": pa.string(),
    "postal_code": pa.string(),
    "date_of_birth": pa.date32(),
    "merchant": pa.string(),
    "merchant_category": pa.string(),
    "channel": pa.string(),
    "country": pa.string(),
    "amount": pa.float64(),
    "hour": pa.int64(),
    "day_of_week": pa.int64(),
    "account_age_days": pa.int64(),
    "seconds_since_last": pa.float64(),
    "transactions_24h": pa.int64(),
    "amount_24h": pa.float64(),
    "amount_ratio": pa.float64(),
    "distance_from_home_km": pa.float64(),
    "is_foreign": pa.bool_(),
    "memo": pa.string(),
    "is_fraud": pa.int64(),
}


def read(dataset: Path) -> pd.DataFrame:
    return pd.read_parquet(dataset / "transactions.parquet")


def features(frame: pd.DataFrame, categories: pd.DataFrame) -> pd.DataFrame:
    columns = {name: frame[name].astype(float) for name in NUMERIC_FEATURES}
    for name in CATEGORICAL_FEATURES:
        columns[name] = pd.Categorical(frame[name], categories=sorted(categories[name].unique()))
    return pd.DataFrame(columns, index=frame.index)


def moved_columns(reference: pd.DataFrame, current: pd.DataFrame) -> set[str]:
    """Return the feature columns with a KS statistic, or a total variation for categories, of 0.1 and more."""
    moved = set()
    for name in NUMERIC_FEATURES:
        a, b = np.sort(reference[name].astype(float)), np.sort(current[name].astype(float))
        points = np.concatenate([a, b])
        distance = np.abs(np.searchsorted(a, points, "right") / len(a) - np.searchsorted(b, points, "right") / len(b))
        if distance.max() >= 0.1:
            moved.add(name)
    for name in CATEGORICAL_FEATURES:
        shares = pd.concat([frame[name].value_counts(normalize=True) for frame in (reference, current)], axis=1)
        if shares.fillna(0).diff(axis=1).iloc[:, 1].abs().sum() / 2 >= 0.1:
            moved.add(name)
    return moved


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> SampleMonth:
    return write_month(tmp_path_factory.mktemp("sample") / "train", rows=ROWS)


@pytest.fixture(scope="module")
def frame(month: SampleMonth) -> pd.DataFrame:
    return read(month.dataset)


def test_the_bytes_depend_on_the_arguments_alone(tmp_path: Path) -> None:
    script = "import sys, pathlib\nfrom kfp_custody.pipelines.fraud_detection.sample_data import write_month\n"
    script += "print(write_month(pathlib.Path(sys.argv[1]), rows=2000).sha256)"
    there = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "there")],
        env=os.environ | {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"},
        check=True,
        capture_output=True,
        text=True,
    )
    here = write_month(tmp_path / "here", rows=2_000)
    assert there.stdout.strip() == here.sha256
    assert (tmp_path / "there.pii_key.jsonl").read_bytes() == here.pii_key.read_bytes()
    assert write_month(tmp_path / "other", rows=2_000, seed=1).sha256 != here.sha256


def test_columns_and_types(month: SampleMonth) -> None:
    schema = pq.read_schema(month.dataset / "transactions.parquet")
    assert {field.name: field.type for field in schema} == SCHEMA
    assert schema.metadata is None
    assert set(NUMERIC_FEATURES + CATEGORICAL_FEATURES) < set(SCHEMA)
    assert [path.name for path in month.dataset.iterdir()] == ["transactions.parquet"]


def test_rows_and_fraud_share(month: SampleMonth, frame: pd.DataFrame) -> None:
    assert len(frame) == month.rows == ROWS
    assert frame[LABEL].sum() == month.frauds == round(ROWS * 0.006)
    assert frame["memo"].notna().sum() == month.memos == ROWS // 20
    assert frame.drop(columns="memo").notna().all().all()
    assert frame["transaction_id"].is_unique
    assert np.isfinite(frame[list(NUMERIC_FEATURES)].astype(float)).all().all()


def test_the_month_is_the_month(frame: pd.DataFrame) -> None:
    assert frame["timestamp"].is_monotonic_increasing
    assert set(frame["timestamp"].dt.strftime("%Y-%m")) == {"2026-09"}
    assert (frame["timestamp"].dt.hour == frame["hour"]).all()
    assert (frame["timestamp"].dt.dayofweek == frame["day_of_week"]).all()


def test_cards_have_a_valid_check_digit(frame: pd.DataFrame) -> None:
    cards = frame["card_number"].unique()
    assert len(cards) > 1_000
    assert all(len(card) == 16 and luhn_digit(map(int, card[:-1])) == int(card[-1]) for card in cards)
    assert luhn_digit(map(int, "7992739871")) == 3  # the worked example of the Luhn patent's literature
    assert luhn_digit(map(int, "411111111111111")) == 1


def test_a_customer_is_one_person(frame: pd.DataFrame) -> None:
    personal = ["customer_name", "email", "phone", "iban", "street_address", "city", "postal_code", "date_of_birth"]
    assert (frame.groupby("customer_id")[personal].nunique() == 1).all().all()


def test_velocity_is_the_history_of_the_customer(frame: pd.DataFrame) -> None:
    """Recompute a few customers naively; after the first week nothing of the dropped history plays a part."""
    customers = frame["customer_id"].value_counts().index[:8]
    checked = 0
    for _, mine in frame[frame["customer_id"].isin(customers)].groupby("customer_id"):
        moments = mine["timestamp"].to_numpy()
        for position in range(1, len(mine)):
            row = mine.iloc[position]
            if row["timestamp"].day <= 2:
                continue
            earlier = mine.iloc[:position]
            recent = earlier[earlier["timestamp"] >= row["timestamp"] - pd.Timedelta(days=1)]
            gap = (moments[position] - moments[position - 1]) / np.timedelta64(1, "s")
            assert row["seconds_since_last"] == min(gap, 7 * 86_400)
            assert row["transactions_24h"] == len(recent)
            assert row["amount_24h"] == pytest.approx(recent["amount"].sum(), abs=0.011)
            checked += 1
    assert checked > 200


def test_the_key_names_the_exact_characters(month: SampleMonth, frame: pd.DataFrame) -> None:
    memos = frame.dropna(subset=["memo"]).set_index("transaction_id")
    rows = [json.loads(line) for line in month.pii_key.read_text().splitlines()]
    assert [row["transaction_id"] for row in rows] == list(memos.index)
    kinds = {}
    for row in rows:
        memo, end = memos.loc[row["transaction_id"]], 0
        for span in row["spans"]:
            assert memo["memo"][span["start"] : span["end"]] == span["text"]
            assert end <= span["start"] < span["end"]
            end = span["end"]
            kinds[span["entity"]] = kinds.get(span["entity"], 0) + 1
    assert set(kinds) == set(ENTITIES)
    assert min(kinds.values()) > 20
    assert 0.25 < np.mean([not row["spans"] for row in rows]) < 0.45


def test_no_identifier_of_the_writer_is_missing_from_the_key(month: SampleMonth, frame: pd.DataFrame) -> None:
    rows = {row["transaction_id"]: row for row in map(json.loads, month.pii_key.read_text().splitlines())}
    for memo in frame.dropna(subset=["memo"]).itertuples():
        covered = "".join(span["text"] for span in rows[memo.transaction_id]["spans"])
        for value in (memo.customer_name, memo.email, memo.phone, memo.card_number, memo.iban, memo.street_address):
            assert (value in memo.memo) <= (value in covered)


def test_the_key_lies_outside_the_dataset(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="key of the personal data"):
        write_month(tmp_path / "month", rows=1_000, pii_key=tmp_path / "month" / "key.jsonl")
    assert not (tmp_path / "month").exists()
    assert write_month(tmp_path / "month", rows=1_000).pii_key.stat().st_mode & 0o077 == 0


def test_fraud_can_be_learned_but_not_solved(frame: pd.DataFrame) -> None:
    border = round(len(frame) * 0.7)
    data = features(frame, frame)
    model = HistGradientBoostingClassifier(
        learning_rate=0.05, max_leaf_nodes=15, l2_regularization=1.0, categorical_features="from_dtype", random_state=0
    ).fit(data[:border], frame[LABEL][:border])
    score = average_precision_score(frame[LABEL][border:], model.predict_proba(data[border:])[:, 1])
    assert 0.55 < score < 0.95  # a third of the demo's month, so a little below what the whole month gives


def test_an_ordinary_next_month_moves_nothing(tmp_path: Path, frame: pd.DataFrame) -> None:
    month = write_month(tmp_path / "next", rows=20_000, month="2026-10")
    assert moved_columns(frame, read(month.dataset)) == set()


def test_a_shifted_month_moves_few_columns(tmp_path: Path, frame: pd.DataFrame) -> None:
    month = write_month(tmp_path / "next", rows=20_000, month="2026-10", shifted=True)
    moved = moved_columns(frame, read(month.dataset))
    assert {"amount", "channel"} <= moved
    assert len(moved) < 0.3 * len(NUMERIC_FEATURES + CATEGORICAL_FEATURES)


def test_a_strongly_shifted_month_moves_many(tmp_path: Path, frame: pd.DataFrame) -> None:
    month = write_month(tmp_path / "next", rows=20_000, month="2026-10", shifted="strong")
    moved = moved_columns(frame, read(month.dataset))
    assert len(moved) >= 0.4 * len(NUMERIC_FEATURES + CATEGORICAL_FEATURES)


def test_two_months_of_a_seed_are_of_the_same_bank(tmp_path: Path, frame: pd.DataFrame) -> None:
    later = read(write_month(tmp_path / "next", rows=2_000, month="2026-10").dataset)
    both = frame[["customer_id", "iban"]].drop_duplicates().merge(later[["customer_id", "iban"]].drop_duplicates())
    assert len(both) > 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rows": 999}, "too small"),
        ({"month": "2026-13"}, "no month"),
        ({"month": "../../etc"}, "no month"),
        ({"shifted": "weak"}, "unknown"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(Misconfigured, match=words):
        write_month(tmp_path / "month", **{"rows": 1_000, **arguments})
    assert list(tmp_path.iterdir()) == []
