"""Files that real libraries write of real models and data; none may be refused."""

import io
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import scipy.sparse
import skops.io
import xgboost
from malicious_files import PACKERS, dense, dumped, field, keras, onnx, safetensors, tarred, zipped
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier


def benign_files() -> dict[str, bytes]:
    """Return files by what they are."""
    files: dict[str, bytes] = {}
    rng = np.random.default_rng(5)
    features = rng.normal(size=(60, 3))
    labels = (features[:, 0] > 0).astype(int)
    for name, model in _models().items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(features, labels)
        files |= {f"{name}, pickle {protocol}": pickle.dumps(model, protocol) for protocol in (0, 2, 4, 5)}
        files |= {f"{name}, joblib": dumped(model), f"{name}, joblib, zlib": dumped(model, 3)}
        files[f"{name}, skops"] = skops.io.dumps(model)
    for packer in ("gzip", "bz2", "xz", "lzma"):
        files[f"joblib, {packer}"] = dumped([features, labels], (packer, 3))
    return files | _arrays(features) | _boosters(features, labels) | _tables() | _others(files)


def _models() -> dict[str, Any]:
    encoder = ColumnTransformer([("category", OneHotEncoder(), [1])], remainder="passthrough")
    return {
        "logistic regression": LogisticRegression(),
        "pipeline": make_pipeline(StandardScaler(), PCA(2), LogisticRegression()),
        "columns": make_pipeline(encoder, DecisionTreeClassifier(max_depth=3)),
        "forest": RandomForestClassifier(n_estimators=3),
        "histogram boosting": HistGradientBoostingClassifier(max_iter=3),
        "boosting": GradientBoostingClassifier(n_estimators=3),
        "isolation forest": IsolationForest(n_estimators=3),
        "neighbours": KNeighborsClassifier(),
        "SVM": SVC(),
        "Bayes": GaussianNB(),
        "network": MLPClassifier((4,), max_iter=5),
        "clusters": KMeans(2, n_init=1),
        "gradient descent": SGDClassifier(),
        "Gaussian process": GaussianProcessClassifier(),
    }


def _arrays(features: Any) -> dict[str, bytes]:
    arrays = {
        "floats": features,
        "objects": np.array([1, "a", None], object),
        "structured": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        "texts": np.array(["ab", "c"]),
        "times": np.array(["2026-01-01"], "M8[s]"),
        "Fortran": np.asfortranarray(features),
        "none": np.zeros((0, 3)),
    }
    files = {}
    for name, array in arrays.items():
        single, several, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
        np.save(single, array)
        np.savez(several, a=array, b=array)
        np.savez_compressed(packed, a=array)
        files |= {f"{name}, npy": single.getvalue(), f"{name}, npz": several.getvalue()}
        files |= {f"{name}, npz packed": packed.getvalue(), f"{name}, joblib": dumped(array)}
        files |= {f"{name}, pickle {protocol}": pickle.dumps(array, protocol) for protocol in (0, 2, 5)}
    sparse = io.BytesIO()
    scipy.sparse.save_npz(sparse, scipy.sparse.csr_matrix(features))
    return files | {"sparse, npz": sparse.getvalue(), "generator": pickle.dumps(np.random.default_rng(1))}


def _boosters(features: Any, labels: Any) -> dict[str, bytes]:
    files = {}
    for kind in ("gbtree", "gblinear", "dart"):
        model = xgboost.XGBClassifier(n_estimators=3, booster=kind).fit(features, labels)
        files |= {f"{kind}, {form}": bytes(model.get_booster().save_raw(form)) for form in ("ubj", "json")}
        files[f"{kind}, pickle"] = pickle.dumps(model)
        files[f"{kind}, joblib"] = dumped(model)
    return files


def _tables() -> dict[str, bytes]:
    series = pd.Series([1.0, 2.0, 3.0])
    names = pd.Index(["a", "b"], dtype=object)
    frame = pd.DataFrame(np.ones((3, 2)), columns=names)
    return {
        "series": pickle.dumps(series),
        "table": pickle.dumps(frame),
        "table, joblib": dumped(frame),
        "containers": pickle.dumps([{1, 2}, frozenset([3]), bytearray(b"a"), 1j, slice(1, 2), b"b", -(2**80), 1.5]),
        **{
            f"values of protocol {number}": pickle.dumps([b"\xff", {"a": (1, "é")}, True], number)
            for number in range(6)
        },
    }


def _others(files: dict[str, bytes]) -> dict[str, bytes]:
    """Archives of the rest; what no library of ours writes is put together here, with that said by its name."""
    model, ubj = files["forest, pickle 4"], bytes(files["forest, skops"])
    folder = io.BytesIO()
    with tarfile.open(fileobj=folder, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("model/forest.pkl")
        info.size, info.mtime = len(model), 1.5
        archive.addfile(info, io.BytesIO(model))
    shipped = Path(onnxruntime.__file__).parent / "datasets"
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    return {
        "zip": zipped([("a/forest.pkl", model), ("a/forest.skops", ubj)]),
        "zip, packed": zipped([("forest.pkl", model)], zipfile.ZIP_DEFLATED),
        "tar": tarred([(tarfile.TarInfo("forest.pkl"), model)]),
        "tar with times": folder.getvalue(),
        **{f"packed with {name}": pack(model) for name, pack in PACKERS.items()},
        **{path.name: path.read_bytes() for path in sorted(shipped.glob("*.onnx"))},
        "by hand: safetensors": safetensors({"a": tensor, "__metadata__": {"format": "np"}}, b"\0" * 4),
        "by hand: Keras configuration": str(keras(dense())).replace("'", '"').replace("None", "null").encode(),
        "by hand: torch": zipped([("m/data.pkl", b"\x80\x02}q\x00."), ("m/version", b"3\n"), ("m/data/0", b"\0" * 8)]),
        "by hand: ONNX": onnx(field(1, field(1, "x") + field(2, "y") + field(4, "Relu"))),
    }
