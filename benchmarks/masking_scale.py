"""How masking of declared columns grows with the rows: CPU, wall time and memory from 10,000 to 10 million rows.

Each size is masked by a process of its own, which reports what the operating system says about it. The table has nine
columns: four are replaced by keyed pseudonyms, five are kept, of which the two of text are searched for identifiers.
It is always of the same 50,000 customers, over a longer and longer time.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _table import Result, publish

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
GROUP = 250_000  # rows generated at a time
POLICY = """\
version: 1
columns:
  customer_id: {operator: hmac, domain: customer}
  card_number: {operator: hmac, domain: card}
  email: {operator: hmac}
  phone: {operator: hmac}
  merchant: {operator: keep}
  city: {operator: keep}
  amount: {operator: keep}
  second: {operator: keep}
  is_fraud: {operator: keep}
"""


def main() -> int:
    """Measure each size; print the table."""
    measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "policy.yaml").write_text(POLICY)
        (root / "masking.key").write_text(os.urandom(32).hex())
        (root / "masking.key").chmod(0o600)
        for rows in SIZES:
            raw = root / f"{rows}.parquet"
            _generate(raw, rows)
            command = [sys.executable, __file__, str(root), raw.name]
            measured[rows] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
            raw.unlink()
            print(
                f"{rows:>12,} rows: {measured[rows]['cpu']:7.1f} CPU s, {measured[rows]['wall']:7.1f} s, "
                f"{measured[rows]['peak']:7.0f} MiB",
                flush=True,
            )
    million, most = measured[1_000_000], measured[10_000_000]
    results = [
        Result("1 million rows", 1_000_000 / million["cpu"], None, "rows per CPU s", 100_000),
        Result("10 million rows", 10_000_000 / most["cpu"], None, "rows per CPU s", 100_000),
        Result("10 million rows, peak memory", most["peak"], None, "MiB", 1536, most=True),
        Result("  beside 1 million rows", most["peak"] / million["peak"], None, "times", 1.5, most=True),
        Result("10 million rows, CPU beside 1 million", most["cpu"] / million["cpu"], None, "times", 11, most=True),
        Result(
            "1 million rows, CPU beside 100,000",
            million["cpu"] / measured[100_000]["cpu"],
            None,
            "times",
            11,
            most=True,
        ),
    ]
    return 0 if publish("masking_scale", results) else 1


def measure(root: Path, name: str) -> None:
    """Mask one table in this process and print what it took."""
    from kfp_custody.components._shared.settings import load_settings
    from kfp_custody.components._shared.signers.file import generate_key
    from kfp_custody.components._shared.signers.loading import load_signer
    from kfp_custody.components.pii_masking.masking import mask_dataset

    place = root / name.removesuffix(".parquet")
    place.mkdir()
    generate_key(place / "signer.pem")
    before, started = resource.getrusage(resource.RUSAGE_SELF), perf_counter()
    mask_dataset(
        root / name,
        place / "masked",
        place / "evidence",
        None,
        run_id="benchmark",
        policy=str(root / "policy.yaml"),
        expected_sha256="",
        signer=load_signer(f"file:{place}/signer.pem"),
        settings=load_settings({"CUSTODY_MASKING_KEY": str(root / "masking.key")}),
    )
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu": cpu, "wall": perf_counter() - started, "peak": after.ru_maxrss / 1024}))
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def _generate(path: Path, rows: int) -> None:
    """Write a table of transactions of 50,000 customers, whatever the rows."""
    rng, writer = np.random.default_rng(1), None
    people = 50_000
    owners = [f"C{number:08d}" for number in range(people)]
    cards = [f"{4_000_000_000_000_000 + 7_919 * number}" for number in range(people)]
    emails = [f"customer{number}@mail.example" for number in range(people)]
    phones = [f"+1 555 {number:08d}" for number in range(people)]
    merchants, cities = [f"Merchant {number}" for number in range(500)], [f"Town {number}" for number in range(200)]
    for start in range(0, rows, GROUP):
        count = min(GROUP, rows - start)
        who = rng.integers(0, people, count)
        texts = {"customer_id": owners, "card_number": cards, "email": emails, "phone": phones}
        columns = {name: pa.array(values).take(pa.array(who)) for name, values in texts.items()}
        columns["merchant"] = pa.array(merchants).take(pa.array(rng.integers(0, 500, count)))
        columns["city"] = pa.array(cities).take(pa.array(rng.integers(0, 200, count)))
        columns |= {
            "amount": pa.array(rng.gamma(2.0, 40.0, count)),
            "second": pa.array(np.arange(start, start + count)),
        }
        table = pa.table(columns | {"is_fraud": pa.array(rng.random(count) < 0.006)})
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(Path(sys.argv[1]), sys.argv[2])
        raise SystemExit(0)
    raise SystemExit(main())
