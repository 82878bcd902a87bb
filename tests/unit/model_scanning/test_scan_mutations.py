"""Whatever the bytes are, the scanner comes to a verdict: it never raises, and nothing is imported or run."""

import pickle
import random
import struct
from pathlib import Path

import pytest
from benign_files import benign_files
from hypothesis import given
from hypothesis import strategies as st
from malicious_files import malicious_files, text
from test_scan_corpus import ALLOWED, FAILED, nothing_runs, scan

from kfp_custody.components.model_scanning.formats import PASSED, WARNED
from kfp_custody.components.model_scanning.pickles import OPCODES

__all__ = ["nothing_runs"]
VERDICTS = {PASSED, WARNED, FAILED}
TURNS = 4


@pytest.fixture(scope="module")
def benign() -> dict[str, bytes]:
    return benign_files()


@pytest.fixture(scope="module")
def files(benign: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Every file of the corpus that is small enough to be changed often."""
    hostile = malicious_files(tmp_path_factory.mktemp("never") / "marker")
    known = [data for group in hostile.values() for data in group] + list(benign.values())
    return [data for data in known if 0 < len(data) < 60_000]


def changed(data: bytes, rng: random.Random) -> bytes:
    """Return data with some bytes flipped, cut out, doubled, or made to numbers at the ends of their range."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, size = rng.randrange(len(out) + 1), rng.randrange(1, 40)
        action = rng.randrange(5)
        if action == 0 and at < len(out):
            out[at] = rng.randrange(256)
        elif action == 1:
            del out[at : at + size]
        elif action == 2:
            out[at:at] = out[at : at + size]
        elif action == 3:
            out[at : at + 8] = struct.pack(rng.choice("<>") + "q", rng.choice((-1, 0, 1, 2**31, 2**62, -(2**63))))
        else:
            other = rng.randrange(len(out) + 1)
            out[at:at] = out[other : other + size]
    return bytes(out)


def test_changed_files_get_a_verdict(files: list[bytes], tmp_path: Path, nothing_runs: None) -> None:
    rng = random.Random(7)
    for data in files:
        for _ in range(TURNS):
            found = scan(changed(data, rng), tmp_path)
            assert {item.verdict for item in found} <= VERDICTS
            assert all(item.finding.isprintable() for item in found if item.verdict == FAILED)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_cut_off_never_passes(benign: dict[str, bytes], tmp_path: Path, nothing_runs: None) -> None:
    rng = random.Random(8)
    passed = []
    for name, data in benign.items():
        cut = data[: rng.randrange(len(data))]
        # What is cut off may be nothing: the zeros that fill up a tar, or what follows on a STOP in a string.
        is_whole = not any(data[len(cut) :]) or cut.endswith(b".")
        if scan(cut, tmp_path)[0].verdict != FAILED and not is_whole:
            passed.append(name)
    assert passed == []


OPCODE = st.sampled_from(sorted(OPCODES)).map(lambda code: bytes([code]))
PIECE = st.one_of(OPCODE, st.binary(max_size=6), st.sampled_from([b"os\nsystem\n", text("os"), text("system"), b"\n"]))


@given(st.lists(PIECE, max_size=60))
def test_any_program_of_opcodes_gets_a_verdict(pieces: list[bytes]) -> None:
    data = b"\x80\x04" + b"".join(pieces) + b"."
    (item,) = scan(data, Path("/nonexistent"))
    assert item.verdict in VERDICTS


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.frozensets(st.integers())
    ),
    max_leaves=30,
)


@given(VALUES, st.integers(0, 5))
def test_plain_values_are_never_refused(value: object, protocol: int) -> None:
    (item,) = scan(pickle.dumps(value, protocol), Path("/nonexistent"), ALLOWED)
    assert item.verdict == WARNED, item.finding


@given(st.binary(max_size=400))
def test_any_bytes_get_a_verdict(data: bytes) -> None:
    found = scan(data, Path("/tmp"))  # noqa: S108
    assert found
