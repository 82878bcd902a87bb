"""The operator `fpe`: a text of the same form, of which only the digits (or digits and letters) are enciphered."""

import string

from kfp_custody.components.pii_masking.ff1 import FF1

ALPHABETS = {"digits": string.digits, "alphanumeric": string.digits + string.ascii_uppercase}
CHECKS = ("any", "keep", "break")


class FormCipher:
    """Enciphers texts: what is in the alphabet, in its order; space and punctuation stay where they are."""

    def __init__(self, key: bytes, alphabet: str, luhn: str) -> None:
        """Keep the key.

        Args:
            key: 32 bytes.
            alphabet: A name of ALPHABETS.
            luhn: Of digits, what becomes of the check digit of a card number: `any` enciphers it like the others, so
                that one number in ten passes the check by chance; `keep` makes valid numbers of valid ones, `break`
                makes invalid ones of them. All three can be undone.
        """
        self._alphabet, self._luhn = ALPHABETS[alphabet], luhn
        self._ff1 = FF1(key, len(self._alphabet))

    def encrypt(self, text: str) -> str:
        """Return a text of the same form.

        Raises:
            ValueError: it holds a letter or digit outside the alphabet, or too few of it: no such text could be told
                from the others, or it would be found by trying all.
        """
        return self._ciphered(text, back=False)

    def decrypt(self, text: str) -> str:
        """Return the text that `encrypt` was given.

        Raises:
            ValueError: as above.
        """
        return self._ciphered(text, back=True)

    def _ciphered(self, text: str, *, back: bool) -> str:
        places = [place for place, character in enumerate(text) if character in self._alphabet]
        if any(character.isalnum() and character not in self._alphabet for character in text):
            raise ValueError("outside the alphabet")
        numerals = [self._alphabet.index(text[place]) for place in places]
        cipher = self._ff1.decrypt if back else self._ff1.encrypt
        if self._luhn == "any" or not numerals:
            result = cipher(numerals)
        else:
            offset = (numerals[-1] - _check_digit(numerals[:-1])) % 10
            shift = (-1 if back else 1) if self._luhn == "break" else 0
            result = cipher(numerals[:-1])
            result.append((_check_digit(result) + offset + shift) % 10)
        characters = list(text)
        for place, numeral in zip(places, result, strict=True):
            characters[place] = self._alphabet[numeral]
        return "".join(characters)


def _check_digit(digits: list[int]) -> int:
    """Return the digit that makes a number pass Luhn's check (ISO/IEC 7812-1)."""
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[::-2])
    return -(sum(doubled) + sum(digits[-2::-2])) % 10
