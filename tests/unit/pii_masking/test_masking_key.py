import os
from pathlib import Path

import pytest

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components.pii_masking.pseudonyms import MaskingKey, read_masking_key

KEY = MaskingKey(bytes(range(32)))


def key_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_key_file_is_read(tmp_path: Path) -> None:
    key = read_masking_key(key_file(tmp_path / "k", KEY.master.hex() + "\n"))
    assert key == KEY
    assert len(key.key_id) == 16
    assert key.key_id not in key.master.hex()
    assert KEY.master.hex() not in repr(key)
    assert repr(key.master) not in repr(key)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o666, 0o620, 0o602])
def test_a_key_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(Misconfigured):
        read_masking_key(key_file(tmp_path / "k", KEY.master.hex(), mode))


@pytest.mark.parametrize("text", ["", "ab" * 31, "zz" * 32, "abc", "é" * 64])
def test_a_bad_key_is_refused_without_being_quoted(tmp_path: Path, text: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        read_masking_key(key_file(tmp_path / "k", text))
    assert not text or text not in str(refusal.value)


def test_a_missing_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        read_masking_key(tmp_path / "none")


def test_tokens_are_stable_and_bound_to_key_and_domain() -> None:
    first, second, again = KEY.tokens("card", ["4111", "4112", "4111"])
    assert first == again != second
    assert len(first) == 26
    assert set(first) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert KEY.tokens("account", ["4111"]) != [first]
    assert MaskingKey(os.urandom(32)).tokens("card", ["4111"]) != [first]


def test_offsets_stay_in_range_and_are_never_zero() -> None:
    offsets = KEY.offsets("customer", [str(i) for i in range(2000)], 3)
    assert set(offsets) == {-3, -2, -1, 1, 2, 3}
    assert KEY.offsets("customer", ["7"], 3) == [offsets[7]]
