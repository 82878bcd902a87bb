"""Masking inside a real Spark on this machine: the rows of mask_pii, the key read by the workers, refusals kept."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_rows import KEY, POLICY, ROWS, by_id

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.pii_masking.adapters.spark import mask_frame

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def spark(place: Path) -> Iterator[Any]:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.warehouse.dir", str(place / "warehouse"))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def test_spark_makes_the_rows_of_mask_pii(
    spark: Any, place: Path, raw: Path, masked: pa.Table, engine_settings: Settings
) -> None:
    frame = mask_frame(spark.read.parquet(str(raw)).repartition(4), POLICY, engine_settings)
    frame.write.parquet(str(place / "by-spark"))
    table = pq.read_table(place / "by-spark")
    assert table.num_rows == ROWS
    assert by_id(table).cast(masked.schema).equals(masked)


def test_the_key_is_not_sent_with_the_job(spark: Any, raw: Path, engine_settings: Settings) -> None:
    from pyspark.serializers import CloudPickleSerializer

    from kfp_custody.components.pii_masking.adapters.batches import batch_masker

    masker = batch_masker(pq.read_schema(next(raw.glob("*.parquet"))), POLICY, engine_settings)
    sent = CloudPickleSerializer().dumps(masker)
    assert engine_settings.masking_key.encode() in sent
    assert KEY.encode() not in sent
    assert bytes.fromhex(KEY) not in sent


def test_a_leak_stops_the_job_and_is_not_quoted(
    spark: Any, place: Path, leaking: Path, engine_settings: Settings
) -> None:
    from pyspark.errors import PySparkException

    frame = mask_frame(spark.read.parquet(str(leaking)), POLICY, engine_settings)
    with pytest.raises(PySparkException) as caught:
        frame.write.parquet(str(place / "never"))
    assert "'card_number' is repeated in 'merchant'" in str(caught.value)
    cards = pq.read_table(leaking)["card_number"].to_pylist()
    assert not any(card in str(caught.value) for card in cards)
    assert not list((place / "never").glob("*.parquet"))


def test_nested_columns_are_refused_before_anything_runs(spark: Any, engine_settings: Settings) -> None:
    with pytest.raises(InputRefused, match="cannot be masked"):
        mask_frame(spark.sql("SELECT array(1, 2) AS numbers"), POLICY, engine_settings)
