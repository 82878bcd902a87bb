from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components.pii_masking.tables import ROW_GROUP, ParquetSink, open_source


def read(root: Path, rows: int = 1000, **types: str) -> pa.Table:
    source = open_source(root, types)
    return pa.concat_tables([source.schema.empty_table(), *source.chunks(rows)])


def refusal(root: Path, **types: str) -> str:
    with pytest.raises(InputRefused) as caught:
        read(root, **types)
    assert caught.value.__cause__ is None
    return str(caught.value)


def csv(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_csv_and_parquet_are_read_alike(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", 'n,text,zip\n1,"a,\nb",01234\n2,,05678\n')
    table = read(path, zip="string")
    assert table.to_pylist() == [{"n": 1, "text": "a,\nb", "zip": "01234"}, {"n": 2, "text": None, "zip": "05678"}]
    pq.write_table(table, tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet").equals(table)


def test_a_file_without_suffix_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "data")
    assert read(tmp_path / "data").num_rows == 1
    assert read(csv(tmp_path / "text", "a\n1\n")).num_rows == 1


def test_files_of_a_directory_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        csv(tmp_path / f"{name}.csv", f"x\n{name}\n")
    assert read(tmp_path)["x"].to_pylist() == ["a", "b", "c"]


def test_foreign_types_of_text_become_text_and_metadata_goes(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array(["x", "y"]).dictionary_encode(), "b": pa.array(["x", None], pa.large_string())})
    pq.write_table(table.replace_schema_metadata({"pandas": "secret"}), tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet", {})
    assert source.schema == pa.schema({"a": pa.string(), "b": pa.string()})
    assert source.schema.metadata is None
    assert next(iter(source.chunks(10)))["b"].to_pylist() == ["x", None]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.csv", b"", "no bytes"),
        ("a.parquet", b"", "no bytes"),
        ("a.parquet", b"PAR1 is not enough PAR1", "cannot be read"),
        ("a.parquet", b"name\nsecret\n", "cannot be read"),
        ("a.xlsx", b"name\n", "'.xlsx'"),
        ("a.csv", "n\nsécret\n".encode("latin-1"), "UTF-8"),
        ("a.csv", "n\nsecret\n".encode("utf-16"), ""),
        ("a.csv", b"a,b\nsecret,2,3\n", ""),
        ("a.csv", b"a\n1\n" + b"2\n" * 5_000_000 + b"secret\n", "mixed types"),
        ("a.csv", b"a,b\n1,\n", "not one value"),
    ],
)
def test_what_cannot_be_read_is_refused_and_not_quoted(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    text = refusal(csv(tmp_path / name, data))
    assert reason in text
    assert "secret" not in text


def test_a_value_that_breaks_its_declared_type_is_refused_and_not_quoted(tmp_path: Path) -> None:
    assert "secret" not in refusal(csv(tmp_path / "a.csv", "a\n1\nsecret\n"), a="integer")


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(10_000))}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    csv(tmp_path / "a.parquet", data[:200] + b"\xff" * 400 + data[600:])
    refusal(tmp_path / "a.parquet")
    csv(tmp_path / "a.parquet", data[: len(data) // 2])
    refusal(tmp_path / "a.parquet")


def test_nested_and_binary_columns_are_refused(tmp_path: Path) -> None:
    for number, column in enumerate((pa.array([[1]]), pa.array([{"a": 1}]), pa.array([b"x"]), pa.nulls(1))):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"x": column}), path)
        assert "'x'" in refusal(path)


def test_files_that_differ_are_refused(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", "x,y\n1,2\n")
    csv(tmp_path / "b.csv", "x,y\n1,secret\n")
    assert "types differ from a.csv in 'y'" in refusal(tmp_path)
    csv(tmp_path / "b.csv", "y,x\n1,2\n")
    assert "columns" in refusal(tmp_path)
    (tmp_path / "b.csv").unlink()
    pq.write_table(pa.table({"x": [1], "y": [2]}), tmp_path / "b.parquet")
    assert "both" in refusal(tmp_path)


def test_the_bytes_written_do_not_depend_on_the_pieces(tmp_path: Path) -> None:
    table = pa.table({"a": list(range(ROW_GROUP + 5000)), "b": [f"v{i % 977}" for i in range(ROW_GROUP + 5000)]})
    outputs = []
    for size in (999, 70_000, 1_000_000):
        path = tmp_path / f"{size}.parquet"
        with ParquetSink(path, table.schema) as sink:
            for start in range(0, table.num_rows, size):
                sink.write(table.slice(start, size))
        outputs.append(path.read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [ROW_GROUP, 5000]
    assert file.metadata.metadata is None
    assert file.read().equals(table)
