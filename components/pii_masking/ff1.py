"""FF1, the format-preserving encryption of NIST SP 800-38G, over numerals of any radix from 2 to 65,536.

FF3 and FF3-1 are withdrawn (SP 800-38G Rev. 1, second draft of 2025). FF1 needs a domain of a million texts or more:
below that a table of all of them breaks it, whatever the cipher.
"""

from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

MIN_DOMAIN = 10**6
_ROUNDS = 10
_BLOCK = 16


class FF1:
    """Encrypts sequences of numerals under one key and tweak."""

    def __init__(self, key: bytes, radix: int, tweak: bytes = b"") -> None:
        """Keep the key.

        Args:
            key: of AES: 16, 24 or 32 bytes.
            radix: how many numerals there are.
            tweak: public; another one gives other texts.
        """
        self._aes, self._radix, self._tweak = algorithms.AES(key), radix, tweak

    def encrypt(self, numerals: Sequence[int]) -> list[int]:
        """Return as many numerals (0 to radix - 1).

        Raises:
            ValueError: there are fewer texts of this length than a million.
        """
        half = self._half(numerals)
        left, right = self._number(numerals[:half]), self._number(numerals[half:])
        sizes = half, len(numerals) - half
        for number in range(_ROUNDS):
            modulus = self._radix ** sizes[number % 2]
            left, right = right, (left + self._round(number, right, len(numerals))) % modulus
        return self._numerals(left, sizes[0]) + self._numerals(right, sizes[1])

    def decrypt(self, numerals: Sequence[int]) -> list[int]:
        """Return the numerals that `encrypt` was given.

        Raises:
            ValueError: there are fewer texts of this length than a million.
        """
        half = self._half(numerals)
        left, right = self._number(numerals[:half]), self._number(numerals[half:])
        sizes = half, len(numerals) - half
        for number in reversed(range(_ROUNDS)):
            modulus = self._radix ** sizes[number % 2]
            left, right = (right - self._round(number, left, len(numerals))) % modulus, left
        return self._numerals(left, sizes[0]) + self._numerals(right, sizes[1])

    def _half(self, numerals: Sequence[int]) -> int:
        if self._radix ** len(numerals) < MIN_DOMAIN:
            raise ValueError("the domain is too small")
        return len(numerals) // 2

    def _round(self, number: int, value: int, length: int) -> int:
        """Return the y of a round: a pseudorandom number from the value of one half."""
        wide = length - length // 2
        size = ((self._radix**wide - 1).bit_length() + 7) // 8
        wanted = 4 * -(-size // 4) + 4
        tweak = self._tweak
        fixed = b"\1\2\1" + self._radix.to_bytes(3, "big") + bytes([10, length // 2 % 256])
        fixed += length.to_bytes(4, "big") + len(tweak).to_bytes(4, "big")
        fed = tweak + bytes((-len(tweak) - size - 1) % _BLOCK) + bytes([number]) + value.to_bytes(size, "big")
        chained = Cipher(self._aes, modes.CBC(bytes(_BLOCK))).encryptor()
        seed = chained.update(fixed + fed)[-_BLOCK:]
        stream = seed
        for counter in range(1, -(-wanted // _BLOCK)):
            block = bytes(a ^ b for a, b in zip(seed, counter.to_bytes(_BLOCK, "big"), strict=True))
            stream += Cipher(self._aes, modes.ECB()).encryptor().update(block)  # noqa: S305  (one block, as FF1 says)
        return int.from_bytes(stream[:wanted], "big")

    def _number(self, numerals: Sequence[int]) -> int:
        value = 0
        for numeral in numerals:
            value = value * self._radix + numeral
        return value

    def _numerals(self, value: int, count: int) -> list[int]:
        numerals = []
        for _ in range(count):
            value, numeral = divmod(value, self._radix)
            numerals.append(numeral)
        return numerals[::-1]
