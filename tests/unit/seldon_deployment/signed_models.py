"""Tiny real models, really signed, with real decisions: what unit, contract and services tests deploy."""

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import xgboost
import yaml
from securesystemslib.signer import Signer

from kfp_custody.components._shared.digests import list_tree
from kfp_custody.components._shared.evidence import verification_summary, write_evidence
from kfp_custody.components._shared.keys import public_pem
from kfp_custody.components._shared.kinds import KINDS
from kfp_custody.components._shared.model_signature import sign_model_tree
from kfp_custody.components._shared.signers.loading import public_key
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components.seldon_deployment.decision import Admitted, require_admitted

POLICY = "ab" * 32
FEATURES = [
    {"name": "amount", "type": "number"},
    {"name": "channel", "type": "category", "categories": ["atm", "online", "pos"]},
    {"name": "is_foreign", "type": "number"},
]
ROW = {"amount": 12.5, "channel": "online", "is_foreign": False, "customer_id": "not a feature"}


def write_model(folder: Path, seed: int = 0, **changes: object) -> Path:
    """Train on noise and write a model directory as train_model does; `changes` go into signature.json."""
    random = np.random.default_rng(seed)
    matrix = np.column_stack([random.random(200), random.integers(0, 3, 200), random.integers(0, 2, 200)])
    labels = (matrix[:, 0] + 0.2 * matrix[:, 1] > 0.8).astype(int)
    data = xgboost.DMatrix(matrix, label=labels)
    booster = xgboost.train(
        {"objective": "binary:logistic", "seed": seed, "nthread": 1}, data, num_boost_round=3 + seed
    )
    folder.mkdir(parents=True)
    booster.save_model(folder / "model.ubj")
    write_signature(folder, **changes)
    return folder


def write_skops_model(folder: Path) -> Path:
    """Fit a small scikit-learn pipeline on noise and write it as train_model does."""
    import pandas as pd
    import skops.io
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(0)
    frame = pd.DataFrame({"amount": random.random(200), "channel": random.choice(["atm", "pos"], 200).astype(object)})
    frame["is_foreign"] = random.integers(0, 2, 200).astype(float)
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer((encoder, ["channel"]), remainder="passthrough")
    model = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=3, random_state=0))
    model.fit(frame, (frame["amount"] > 0.5).astype(int))
    folder.mkdir(parents=True)
    skops.io.dump(model, folder / "model.skops")
    types = skops.io.get_untrusted_types(file=folder / "model.skops")
    write_signature(folder, format="sklearn-skops", file="model.skops", trusted_types=types)
    return folder


def write_signature(folder: Path, **changes: object) -> None:
    """Write signature.json of the three features, with changes."""
    signature = {
        "schema_version": 1,
        "format": "xgboost-ubj",
        "file": "model.ubj",
        "features": FEATURES,
        "label": "is_fraud",
        "classes": [0, 1],
        "threshold": 0.5,
        "trusted_types": [],
        "versions": {},
    }
    (folder / "signature.json").write_text(json.dumps(signature | changes))


def trust_text(signer: Signer, kinds: Collection[str] = tuple(KINDS)) -> str:
    """Write a trust file for one signer, with the policy of our decisions pinned."""
    entry = {"name": "pipeline", "key": public_pem(public_key(signer)).decode(), "may_sign": list(kinds)}
    policies = [{"name": "baseline", "sha256": POLICY}]
    return yaml.safe_dump({"version": 1, "signers": [entry], "policies": policies})


def sign(model: Path, signer: Signer) -> Path:
    """Sign `<folder>/model` and return the folder: a SignedModel."""
    sign_model_tree(model, model.parent / "model.sig", signer)
    return model.parent


def decide(
    folder: Path,
    model: Path,
    signer: Signer,
    run_id: str,
    *,
    passed: bool = True,
    service: str = "fraud-detection",
    policy: str = POLICY,
) -> Path:
    """Write the gate's decision about a model directory."""
    listing = list_tree(model)
    statement = verification_summary(
        listing,
        passed=passed,
        run_id=run_id,
        resource_uri=f"models:/{service}",
        policy_uri="baseline",
        policy_sha256=policy,
        inputs={"training": "cd" * 32},
        levels=["SLSA_BUILD_LEVEL_1"],
    )
    write_evidence(folder, statement, signer, listing)
    return folder


def admit(folder: Path, model: Path, signer: Signer, run_id: str = "run-1", name: str = "fraud-detection") -> Admitted:
    """Sign a model, decide about it, write `<folder>/trust.yaml`, and return the model as a deployer admits it."""
    (folder / "trust.yaml").write_text(trust_text(signer))
    signed, decision = sign(model, signer), decide(folder / "decision", model, signer, run_id, service=name)
    return require_admitted(signed, decision, load_trust(folder / "trust.yaml"), run_id=run_id, name=name)
