"""Masking inside a real Ray on this machine: the rows of mask_pii, and no wait for processors that are not there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_rows import POLICY, by_id

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components.pii_masking.adapters.ray import mask_dataset

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    import ray

    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    yield ray
    ray.shutdown()


def test_ray_makes_the_rows_of_mask_pii(
    ray: Any, place: Path, raw: Path, masked: pa.Table, engine_settings: Settings
) -> None:
    dataset = ray.data.read_parquet(str(raw)).repartition(4)
    mask_dataset(dataset, POLICY, 2, engine_settings).write_parquet(str(place / "by-ray"))
    assert by_id(pq.read_table(place / "by-ray")).cast(masked.schema).equals(masked)


def test_a_leak_stops_the_job_and_is_not_quoted(
    ray: Any, place: Path, leaking: Path, engine_settings: Settings
) -> None:
    dataset = ray.data.read_parquet(str(leaking))
    with pytest.raises(ray.exceptions.RayError) as caught:
        mask_dataset(dataset, POLICY, 1, engine_settings).write_parquet(str(place / "never-by-ray"))
    assert "'card_number' is repeated in 'merchant'" in str(caught.value)
    cards = pq.read_table(leaking)["card_number"].to_pylist()
    assert not any(card in str(caught.value) for card in cards)


@pytest.mark.parametrize("actors", [0, 3, 8])
def test_actors_for_every_processor_are_refused(ray: Any, raw: Path, engine_settings: Settings, actors: int) -> None:
    with pytest.raises(Misconfigured, match="reading needs a processor"):
        mask_dataset(ray.data.read_parquet(str(raw)), POLICY, actors, engine_settings)
