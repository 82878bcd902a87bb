"""Bad input through kfp.local: a task ends with what / evidence / remedy of one kind, and no traceback after it."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from kfp import dsl, local
from local_runs import Platform

from kfp_custody.components import attest_dataset, mask_pii, train_model


@dsl.pipeline(name="mask-only")
def mask_only(data_uri: str) -> None:
    raw = dsl.importer(artifact_uri=data_uri, artifact_class=dsl.Dataset)
    mask_pii(data=raw.output, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER)


@dsl.pipeline(name="mask-and-train")
def mask_and_train(data_uri: str, label: str = "is_fraud", algorithm: str = "logistic_regression") -> None:
    run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    raw = dsl.importer(artifact_uri=data_uri, artifact_class=dsl.Dataset)
    masked = mask_pii(data=raw.output, run_id=run)
    attested = attest_dataset(dataset=masked.outputs["masked"], masking=masked.outputs["evidence"], run_id=run)
    train_model(
        dataset=masked.outputs["masked"],
        attestation=attested.outputs["attestation"],
        run_id=run,
        label=label,
        algorithm=algorithm,
    )


@pytest.fixture(scope="module")
def whole_month(platform: Platform) -> pa.Table:
    """A month without memos, so that no language model is loaded."""
    table = pq.read_table(platform.root / "train")
    memo = table.schema.get_field_index("memo")
    return table.set_column(memo, table.schema.field(memo), pa.nulls(len(table), table.schema.field(memo).type))


@pytest.fixture(scope="module")
def month(whole_month: pa.Table) -> pa.Table:
    """A thousand rows of it."""
    return whole_month.slice(0, 1000)


@pytest.fixture
def refusal(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """Run a pipeline that must be refused; return the kind and the three lines."""
    for name, value in platform.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)

    def run(pipeline: Callable[..., object], **arguments: str) -> tuple[str, str]:
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
        with pytest.raises(RuntimeError):
            pipeline(**arguments)
        output = capfd.readouterr().out
        assert "REFUSED " in output, output[-3000:]
        shown = output[output.rindex("REFUSED ") :].strip()
        assert "Traceback" not in shown
        first, *_ = shown.splitlines()
        assert [line.split()[0] for line in shown.splitlines()[1:3]] == ["evidence:", "remedy:"]
        return first.split()[1].rstrip(":"), shown

    return run


def empty_folder(folder: Path, month: pa.Table) -> None:
    folder.mkdir()


def empty_table(folder: Path, month: pa.Table) -> None:
    folder.mkdir()
    pq.write_table(month.slice(0, 0), folder / "transactions.parquet")


def zero_bytes(folder: Path, month: pa.Table) -> None:
    folder.mkdir()
    (folder / "transactions.parquet").touch()


def huge_and_no_parquet(folder: Path, month: pa.Table) -> None:
    folder.mkdir()
    with (folder / "transactions.parquet").open("wb") as file:
        file.truncate(2 * 1024**3)


def cut_short(folder: Path, month: pa.Table) -> None:
    folder.mkdir()
    pq.write_table(month, folder / "whole")
    data = (folder / "whole").read_bytes()
    (folder / "whole").unlink()
    (folder / "transactions.parquet").write_bytes(data[: len(data) // 2])


def wrong_encoding(folder: Path, month: pa.Table) -> None:
    folder.mkdir()
    pc.write_csv(month, folder / "transactions.csv")
    text = (folder / "transactions.csv").read_bytes()
    (folder / "transactions.csv").write_bytes(text.replace(b"online", "onlïne".encode("latin-1"), 1))


def mixed_types(folder: Path, month: pa.Table) -> None:
    folder.mkdir()
    pq.write_table(month, folder / "a.parquet")
    amount = month.schema.get_field_index("amount")
    words = pa.array(["twelve"] * len(month))
    pq.write_table(month.set_column(amount, "amount", words), folder / "b.parquet")


def undeclared_column(folder: Path, month: pa.Table) -> None:
    folder.mkdir()
    pq.write_table(month.append_column("nickname", pa.array(["x"] * len(month))), folder / "transactions.parquet")


def link_out_of_the_tree(folder: Path, month: pa.Table) -> None:
    folder.mkdir()
    pq.write_table(month, folder.with_suffix(".parquet"))
    (folder / "transactions.parquet").symlink_to(folder.with_suffix(".parquet"))


def name_that_is_not_utf8(folder: Path, month: pa.Table) -> None:
    folder.mkdir()
    pq.write_table(month, folder / "transactions.parquet")
    os.rename(folder / "transactions.parquet", os.path.join(os.fsencode(folder), b"trans\xff.parquet"))  # noqa: PTH104, PTH118


def name_with_a_backslash(folder: Path, month: pa.Table) -> None:
    folder.mkdir()
    pq.write_table(month, folder / "..\\..\\transactions.parquet")


@pytest.mark.parametrize(
    "spoil",
    [
        empty_folder,
        empty_table,
        zero_bytes,
        huge_and_no_parquet,
        cut_short,
        wrong_encoding,
        mixed_types,
        undeclared_column,
        link_out_of_the_tree,
        name_that_is_not_utf8,
        name_with_a_backslash,
    ],
)
def test_a_dataset_that_cannot_be_masked(
    spoil: Callable[[Path, pa.Table], None], month: pa.Table, tmp_path: Path, refusal: Callable[..., tuple[str, str]]
) -> None:
    spoil(tmp_path / "raw", month)
    kind, _ = refusal(mask_only, data_uri=str(tmp_path / "raw"))
    assert kind == "InputRefused"
    assert not list((tmp_path / "root").rglob("masked"))
    assert not list((tmp_path / "root").rglob("*.sigstore.json"))


def test_a_path_that_does_not_exist(tmp_path: Path, refusal: Callable[..., tuple[str, str]]) -> None:
    kind, _ = refusal(mask_only, data_uri=str(tmp_path / "nowhere"))
    assert kind == "InputRefused"


def test_a_missing_key_is_named(
    month: pa.Table, tmp_path: Path, refusal: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(month, tmp_path / "transactions.parquet")
    monkeypatch.setenv("CUSTODY_MASKING_KEY", str(tmp_path / "no.key"))
    kind, shown = refusal(mask_only, data_uri=str(tmp_path / "transactions.parquet"))
    assert kind == "Misconfigured"
    assert "no.key" in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk(whole_month: pa.Table, tmp_path: Path, refusal: Callable[..., tuple[str, str]]) -> None:
    """A small tmpfs where the outputs go; mounting it needs root, which CI has."""
    raw = tmp_path / "raw.parquet"
    pq.write_table(whole_month, raw)
    (tmp_path / "root").mkdir()
    assert os.system(f"mount -t tmpfs -o size=192k none {tmp_path / 'root'}") == 0
    try:
        kind, shown = refusal(mask_only, data_uri=str(raw))
        left = [path for path in (tmp_path / "root").rglob("masked") if any(path.iterdir())]
    finally:
        os.system(f"umount -l {tmp_path / 'root'}")
    assert kind == "Misconfigured"
    assert "disk is full" in shown
    assert not left


def one_class(month: pa.Table) -> pa.Table:
    label = month.schema.get_field_index("is_fraud")
    return month.set_column(
        label, month.schema.field(label), pa.array([0] * len(month), month.schema.field(label).type)
    )


def infinite_feature(month: pa.Table) -> pa.Table:
    amount = month.schema.get_field_index("amount")
    values = month["amount"].to_pylist()
    values[3] = float("inf")
    return month.set_column(amount, "amount", pa.array(values))


@pytest.mark.parametrize(
    ("change", "arguments", "word"),
    [
        (one_class, {}, "class"),
        (infinite_feature, {}, "amount"),
        (lambda month: month, {"label": "no_such_column"}, "no_such_column"),
        (lambda month: month, {"algorithm": "oracle"}, "oracle"),
    ],
    ids=["one class only", "infinite feature", "missing label", "unknown algorithm"],
)
def test_a_dataset_that_cannot_be_trained_on(
    change: Callable[[pa.Table], pa.Table],
    arguments: dict[str, str],
    word: str,
    month: pa.Table,
    tmp_path: Path,
    refusal: Callable[..., tuple[str, str]],
) -> None:
    pq.write_table(change(month), tmp_path / "raw.parquet")
    kind, shown = refusal(mask_and_train, data_uri=str(tmp_path / "raw.parquet"), **arguments)
    assert kind == ("Misconfigured" if "algorithm" in arguments else "InputRefused")
    assert word in shown
    assert not list((tmp_path / "root").rglob("train-model.sigstore.json"))
