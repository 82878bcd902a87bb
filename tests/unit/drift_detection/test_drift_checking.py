"""Whole checks on real Parquet files and a real model, with the input one gets on a bad day."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drift_inputs import month, write_month, write_signature

from kfp_custody.components._shared.columns import open_columns
from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.profiles import read_profile
from kfp_custody.components._shared.scoring import load_scorer
from kfp_custody.components.drift_detection.checking import check
from kfp_custody.components.drift_detection.limits import load_thresholds
from kfp_custody.components.drift_detection.profiling import profile_columns, with_scores
from kfp_custody.components.drift_detection.reporting import coverage, html, metrics, report_json
from kfp_custody.components.drift_detection.sources import Dataset, Profiled

THRESHOLDS = load_thresholds("default")


@pytest.fixture(params=["exact", "profile"])
def judge(tmp_path, model_dir, request):
    def run(current, reference=None, label="is_fraud"):
        sides = []
        for role, columns in (("reference", reference or month()), ("current", current)):
            root = write_month(tmp_path / role, columns)
            sides.append(Dataset(open_columns(root, ["data.parquet"], role), THRESHOLDS.sample_rows))
        if request.param == "profile":
            then = sides[0].columns
            found = with_scores(profile_columns(then), then, load_scorer(model_dir))
            sides[0] = Profiled(read_profile(found.json()))
        drift = check(*sides, model_dir, label, THRESHOLDS)
        document = json.loads(report_json(drift, THRESHOLDS))  # whatever came in, the reports can be written
        assert document["verdict"] == drift.verdict
        assert len(html(drift, THRESHOLDS)) < 300_000
        assert all(np.isfinite(value) for value in metrics(drift).values())
        return drift

    return run


def changed(name, values, **options):
    return month(seed=9, **options) | {name: values}


def test_the_next_month_without_drift_passes(judge):
    drift = judge(month(seed=9, rows=4000))
    assert (drift.verdict, drift.reasons) == ("PASSED", ())
    assert coverage(drift) == {"checked": 4, "skipped": 0, "errors": 0}
    assert metrics(drift)["prediction_psi"] < 0.02


def test_drift_of_the_column_that_matters_fails_through_the_scores(judge):
    drift = judge(month(seed=9, amount_shift=1.0))
    assert drift.verdict == "FAILED"
    assert drift.columns[0].name == "amount"
    assert metrics(drift)["share_drifted"] == 0.25
    assert metrics(drift)["prediction_psi"] > 0.25
    assert drift.reasons[0].startswith("prediction")


def test_drift_of_a_column_the_model_hardly_uses_warns(judge):
    drift = judge(changed("hour", pa.array(np.random.default_rng(1).integers(8, 18, 6000))))
    assert (drift.verdict, drift.named("drift")) == ("WARNED", ["hour"])


def test_many_drifted_columns_fail(judge):
    current = changed("hour", pa.array(np.full(6000, 3))) | {"is_foreign": pa.array([True] * 6000)}
    assert judge(current).verdict == "FAILED"


def test_more_fraud_warns_and_its_noise_does_not(judge):
    assert judge(month(seed=9, fraud=0.09)).verdict == "WARNED"
    same = judge(month(seed=9, fraud=0.034))
    assert (same.verdict, same.label.verdict) == ("PASSED", "none")


@pytest.mark.parametrize("label", ["", "no_such_column", "channel", "amount"])
def test_a_label_that_is_not_0_or_1_on_both_sides_is_not_compared(judge, label):
    drift = judge(month(seed=9), label=label)
    assert (drift.verdict, drift.label) == ("PASSED", None)
    assert "label_rate_delta" not in metrics(drift)


def test_a_label_that_has_not_arrived_is_not_compared(judge):
    drift = judge(changed("is_fraud", pa.nulls(6000, pa.int64())))
    assert drift.label is None


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({name: values for name, values in month(seed=9).items() if name != "amount"}, "missing"),
        (changed("amount", pa.array(["12.50"] * 6000)), "from number to text"),
        (changed("is_foreign", pa.array([0.5] * 6000)), "from boolean to number"),
        (changed("channel", pa.array([1] * 6000)), "from text to number"),
        (changed("amount", pa.array([[1.0]] * 6000)), "from number to other"),
    ],
)
def test_a_changed_schema_fails(judge, columns, reason):
    drift = judge(columns)
    assert drift.verdict == "FAILED"
    assert reason in drift.columns[0].reason
    assert coverage(drift)["errors"] == 2  # the column and the scores
    assert "prediction_psi" not in metrics(drift)


@pytest.mark.parametrize("nulls", [pa.nulls(6000, pa.float64()), pa.nulls(6000)])
def test_an_all_null_column_drifts(judge, nulls):
    drift = judge(changed("amount", nulls))
    assert "amount" in drift.named("drift")


def test_an_all_null_category_drifts(judge):
    assert judge(changed("channel", pa.nulls(6000))).named("drift") == ["channel"]


def test_infinite_numbers_are_counted_and_their_rows_not_scored(judge):
    amount = month(seed=9)["amount"].to_numpy().copy()
    amount[:600] = np.inf
    drift = judge(changed("amount", pa.array(amount)))
    assert drift.prediction.unscored == 600
    assert drift.columns[0].reason.startswith("infinite_share drift")


def test_nothing_but_infinities_fails(judge):
    drift = judge(changed("amount", pa.array(np.full(6000, -np.inf))))
    assert (drift.verdict, drift.prediction.scores) == ("FAILED", None)


def test_one_row_is_never_a_pass(judge):
    drift = judge(month(rows=1, seed=9))
    assert drift.verdict == "WARNED"
    assert coverage(drift) == {"checked": 0, "skipped": 4, "errors": 0}


def test_one_row_on_both_sides(judge):
    assert judge(month(rows=1), reference=month(rows=1)).verdict == "WARNED"


def test_constant_columns_on_both_sides_pass(judge):
    constant = {"hour": pa.array([3] * 6000), "channel": pa.array(["pos"] * 6000)}
    assert judge(month(seed=9) | constant, reference=month() | constant).verdict == "PASSED"


def test_other_encodings_of_the_same_columns_pass(judge):
    columns = month(seed=9)
    columns["channel"] = columns["channel"].dictionary_encode()
    columns["amount"] = columns["amount"].cast(pa.float32())
    columns["hour"] = columns["hour"].cast(pa.float64())
    assert judge(columns).verdict == "PASSED"


def test_the_same_data_gives_the_same_report(judge):
    first, second = (judge(month(seed=9, rows=30_000)) for _ in range(2))
    assert report_json(first, THRESHOLDS) == report_json(second, THRESHOLDS)


def test_no_value_of_the_data_is_in_the_reports(judge):
    channel = pa.array(["someone@example.org"] * 600 + ["pos"] * 5400)
    drift = judge(changed("channel", channel))
    assert "someone" not in html(drift, THRESHOLDS) + report_json(drift, THRESHOLDS).decode()


@pytest.mark.parametrize("columns", [month(rows=0), {name: v for name, v in month().items() if name != "hour"}])
def test_a_reference_that_the_model_cannot_have_seen_is_refused(judge, columns):
    with pytest.raises(InputRefused, match="reference"):
        judge(month(), reference=columns)


def test_an_empty_current_month_is_refused(judge):
    with pytest.raises(InputRefused, match="current dataset: 0 rows"):
        judge(month(rows=0))


def test_a_model_that_cannot_score_the_month_fails(judge, tmp_path):
    from drift_inputs import training_matrix
    from sklearn.linear_model import LogisticRegression
    from skops.io import dump

    model = LogisticRegression().fit(training_matrix(month())[:, :2], np.arange(6000) % 2)
    dump(model, tmp_path / "model" / "model.skops")
    features = [{"name": "amount", "type": "number"}, {"name": "hour", "type": "number"}]
    write_signature(tmp_path / "model", "sklearn-skops", "model.skops", features, trusted_types=["numpy.dtype"])
    drift = judge(changed("hour", pa.array([None, *range(5999)])))
    assert drift.verdict == "FAILED"
    assert "current sample: the model raised ValueError" in drift.prediction.reason


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no parquet at all" * 100])
def test_a_file_that_is_no_parquet_is_refused(tmp_path, data):
    (tmp_path / "data.parquet").write_bytes(data)
    with pytest.raises(InputRefused, match="current dataset"):
        open_columns(tmp_path, ["data.parquet"], "current")


def test_no_parquet_file_a_column_twice_and_files_that_differ_are_refused(tmp_path):
    with pytest.raises(InputRefused, match="none of them named"):
        open_columns(tmp_path, ["data.csv"], "current")
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(InputRefused, match="used twice"):
        open_columns(tmp_path, ["a.parquet"], "current")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "b.parquet")
    with pytest.raises(InputRefused, match="differ"):
        open_columns(tmp_path, ["a.parquet", "b.parquet"], "current")


def test_a_dataset_of_several_files_and_names_with_dots_are_read_whole(tmp_path):
    for number in range(3):
        table = pa.table({"a.b": ["x", None], "a": pa.array([number, None], pa.int64())}).slice(
            0, 0 if number == 1 else 2
        )
        pq.write_table(table, tmp_path / f"{number}.parquet")
    columns = open_columns(tmp_path, ["0.parquet", "1.parquet", "2.parquet"], "current")
    assert columns.rows == 4
    assert np.array_equal(columns.numbers("a"), [0, np.nan, 2, np.nan], equal_nan=True)
    assert [text for group in columns.texts("a.b") for text in group.to_pylist()] == ["x", None, "x", None]
