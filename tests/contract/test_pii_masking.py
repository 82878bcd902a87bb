"""mask_pii as KFP calls it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl

from kfp_custody.components._shared.artifacts import MaskedDataset, TestResult
from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import MASKING
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.trust import Trust
from kfp_custody.components._shared.verification import read_evidence, require_subject
from kfp_custody.components.pii_masking.component import mask_pii

POLICY = """\
version: 1
columns:
  name: {operator: hmac}
  amount: {operator: keep}
  memo: {operator: free_text, entities: [PERSON], threshold: 0.35, known_words: [name]}
"""


@pytest.fixture
def outputs(tmp_path: Path) -> dict[str, dsl.Artifact]:
    kinds = {"masked": MaskedDataset, "evidence": TestResult, "report": dsl.HTML, "metrics": dsl.Metrics}
    return {name: kind(name=name, uri=str(tmp_path / "out" / name)) for name, kind in kinds.items()}


@pytest.fixture
def data(tmp_path: Path) -> dsl.Dataset:
    table = pa.table({"name": ["Ada Lovelace", "Alan Turing"], "amount": [1.0, 2.0], "memo": ["for Ada", None]})
    (tmp_path / "policy.yaml").write_text(POLICY)
    pq.write_table(table, tmp_path / "raw")  # KFP stores a single file without a suffix
    return dsl.Dataset(name="data", uri=str(tmp_path / "raw"))


def test_the_component_masks_and_leaves_evidence(
    tmp_path: Path, outputs: dict[str, dsl.Artifact], data: dsl.Dataset, settings: Settings, trust: Trust, run_id: str
) -> None:
    mask_pii.python_func(data, *outputs.values(), run_id=run_id, policy=str(tmp_path / "policy.yaml"))
    masked = Path(outputs["masked"].path)
    assert pq.read_table(masked / "data.parquet")["memo"].to_pylist() == ["for <NAME>", None]
    verified = read_evidence(Path(outputs["evidence"].path), MASKING, trust, run_id=run_id)
    require_subject(verified, masked, "masked")
    assert outputs["masked"].metadata["sha256"] == list_tree(masked).sha256
    assert all(isinstance(value, str | float) for value in outputs["masked"].metadata.values())
    assert outputs["metrics"].metadata["rows"] == 2.0
    html = Path(outputs["report"].path).read_text()
    assert "PASSED" in html
    assert "Ada" not in html


def test_a_refusal_in_a_task_ends_it_with_three_lines_and_no_output(
    outputs: dict[str, dsl.Artifact],
    data: dsl.Dataset,
    settings: Settings,
    run_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Misconfigured):
        mask_pii.python_func(data, *outputs.values(), run_id=run_id, policy="no-such-policy")
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    with pytest.raises(SystemExit) as end:
        mask_pii.python_func(data, *outputs.values(), run_id=run_id)
    assert "REFUSED InputRefused" in str(end.value)
    assert "remedy" in str(end.value)
    assert not any(Path(artifact.path).exists() for artifact in outputs.values())
