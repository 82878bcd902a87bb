"""FF1 against NIST's own samples, AES-SIV tokens that join and come back, and forms that are kept."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components.pii_masking.ff1 import FF1
from kfp_custody.components.pii_masking.format_preserving import FormCipher
from kfp_custody.components.pii_masking.pseudonyms import MaskingKey

KEY = MaskingKey(bytes(range(32)))
AES_128 = "2B7E151628AED2A6ABF7158809CF4F3C"
AES_192 = AES_128 + "EF4359D8D580AA4F"
AES_256 = AES_192 + "7F036D6F04FC6A94"
DIGITS, LETTERS = "0123456789", "0123456789abcdefghi"
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
TWEAK, LONG_TWEAK = "39383736353433323130", "3737373770717273373737"


# Samples 1 to 9 of NIST's "FF1 samples" for SP 800-38G.
@pytest.mark.parametrize(
    ("key", "radix", "tweak", "plain", "cipher"),
    [
        (AES_128, 10, "", "0123456789", "2433477484"),
        (AES_128, 10, TWEAK, "0123456789", "6124200773"),
        (AES_128, 36, LONG_TWEAK, LETTERS, "a9tv40mll9kdu509eum"),
        (AES_192, 10, "", "0123456789", "2830668132"),
        (AES_192, 10, TWEAK, "0123456789", "2496655549"),
        (AES_192, 36, LONG_TWEAK, LETTERS, "xbj3kv35jrawxv32ysr"),
        (AES_256, 10, "", "0123456789", "6657667009"),
        (AES_256, 10, TWEAK, "0123456789", "1001623463"),
        (AES_256, 36, LONG_TWEAK, LETTERS, "xs8a0azh2avyalyzuwd"),
    ],
)
def test_ff1_gives_the_samples_of_nist(key: str, radix: int, tweak: str, plain: str, cipher: str) -> None:
    ff1 = FF1(bytes.fromhex(key), radix, bytes.fromhex(tweak))
    numerals = [ALPHABET.index(character) for character in plain]
    assert "".join(ALPHABET[numeral] for numeral in ff1.encrypt(numerals)) == cipher
    assert ff1.decrypt(ff1.encrypt(numerals)) == numerals


@given(st.integers(2, 300), st.data())
def test_ff1_is_undone_by_its_inverse(radix: int, data: st.DataObject) -> None:
    numerals = data.draw(st.lists(st.integers(0, radix - 1), min_size=20, max_size=40))
    ff1 = FF1(bytes(32), radix, b"tweak")
    assert ff1.decrypt(ff1.encrypt(numerals)) == numerals


def test_ff1_refuses_a_small_domain() -> None:
    FF1(bytes(16), 10).encrypt([1] * 6)
    with pytest.raises(ValueError, match="too small"):
        FF1(bytes(16), 10).encrypt([1] * 5)


# --- the form of a text ----------------------------------------------------------------------------------------------


def luhn_valid(number: str) -> bool:
    digits = [int(character) for character in number if character.isdigit()][::-1]
    return sum(digits[::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


CARDS = ["4111 1111 1111 1111", "5105-1051-0510-5100", "378282246310005"]


@pytest.mark.parametrize(("luhn", "valid"), [("keep", True), ("break", False)])
def test_the_check_digit_is_kept_or_broken_and_comes_back(luhn: str, valid: bool) -> None:
    cipher = FormCipher(bytes(32), "digits", luhn)
    for card in CARDS:
        hidden = cipher.encrypt(card)
        assert luhn_valid(card)
        assert luhn_valid(hidden) is valid
        assert hidden != card
        assert [c if not c.isdigit() else "0" for c in hidden] == [c if not c.isdigit() else "0" for c in card]
        assert cipher.decrypt(hidden) == card


@given(st.from_regex(r"[0-9]{7,20}", fullmatch=True), st.sampled_from(["any", "keep", "break"]))
def test_every_number_comes_back(number: str, luhn: str) -> None:
    cipher = FormCipher(bytes(range(32)), "digits", luhn)
    assert cipher.decrypt(cipher.encrypt(number)) == number


def test_letters_are_enciphered_only_where_the_alphabet_has_them() -> None:
    hidden = FormCipher(bytes(32), "alphanumeric", "any").encrypt("DE89-3704 0044")
    assert hidden[4] == "-"
    assert hidden[9] == " "
    assert hidden.replace("-", "").replace(" ", "").isalnum()
    for text in ("DE89370400440532013000", "12345é789"):
        with pytest.raises(ValueError, match="alphabet"):
            FormCipher(bytes(32), "digits", "any").encrypt(text)


# --- in a policy -----------------------------------------------------------------------------------------------------

POLICY = """\
version: 1
allow_fpe: true
columns:
  customer: {operator: encrypt, domain: customer}
  card: {operator: fpe, luhn: break}
"""
TABLE = pa.table(
    {"customer": ["C1", "C2", None, ""], "card": ["4111111111111111", "5105 1051 0510 5100", None, CARDS[0]]}
)


def test_encrypted_columns_join_and_come_back(mask: Any) -> None:
    masked, _ = mask(TABLE, POLICY)
    other, _ = mask(
        pa.table({"owner": ["C2", "C9"]}), "version: 1\ncolumns: {owner: {operator: encrypt, domain: customer}}"
    )
    tokens = masked["customer"].to_pylist()
    assert tokens[1] == other["owner"][0].as_py()
    key = MaskingKey(bytes.fromhex("0123456789abcdef" * 4))
    assert key.decrypt("customer", [tokens[0], tokens[1], tokens[3]]) == ["C1", "C2", ""]
    assert tokens[2] is None
    with pytest.raises(InputRefused, match="cannot be decrypted") as refusal:
        key.decrypt("account", [tokens[0]])
    assert tokens[0] not in str(refusal.value)
    changed = ("a" if tokens[0][0] != "a" else "b") + tokens[0][1:]
    with pytest.raises(InputRefused):
        key.decrypt("customer", [changed])


def test_what_fpe_writes_has_the_form_of_the_input(mask: Any) -> None:
    masked, _ = mask(TABLE, POLICY)
    for before, after in zip(TABLE["card"].to_pylist(), masked["card"].to_pylist(), strict=True):
        assert (before is None) == (after is None)
        assert before is None or (len(before) == len(after) and before != after and not luhn_valid(after))


def test_fpe_needs_the_word_of_the_policy(mask: Any) -> None:
    with pytest.raises(Misconfigured, match="allow_fpe"):
        mask(TABLE, POLICY.replace("allow_fpe: true\n", ""))
    with pytest.raises(Misconfigured, match="check digit"):
        mask(TABLE, POLICY.replace("luhn: break", "luhn: break, alphabet: alphanumeric"))


@pytest.mark.parametrize("card", ["12345", "4111x111"])
def test_a_value_that_cannot_be_enciphered_is_refused_and_not_quoted(mask: Any, card: str) -> None:
    with pytest.raises(InputRefused, match="own form") as refusal:
        mask(pa.table({"customer": ["C1"], "card": [card]}), POLICY)
    assert card not in str(refusal.value)
