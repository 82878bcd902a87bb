"""Invented card holders: names, contacts, cards, accounts, homes and spending habits, drawn from one seed.

Nothing here is a real person. Names, streets, postal codes, phone numbers and IBANs come from Faker's locales,
e-mail domains are the reserved ``example`` ones, card numbers and IBANs carry valid check digits so that a
detector which validates them has to find them. Only home cities and their coordinates are real.

Nothing reads the clock: Faker's own dates count from today, so birthdays and account openings are drawn here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POPULATION = 4_000
"""Customers of the invented bank. Every month draws on the same ones."""

CARDS_PER_CUSTOMER = 2
ADDRESSES_PER_CUSTOMER = 3

LOCALES = {
    "US": ("en_US", 0.55),
    "GB": ("en_GB", 0.15),
    "DE": ("de_DE", 0.08),
    "FR": ("fr_FR", 0.08),
    "IT": ("it_IT", 0.05),
    "NL": ("nl_NL", 0.05),
    "ES": ("es_ES", 0.04),
}
"""Home country -> Faker locale, share of the customers."""

CITIES: tuple[tuple[str, str, float, float], ...] = (
    ("US", "New York", 40.71, -74.01),
    ("US", "Chicago", 41.88, -87.63),
    ("US", "Houston", 29.76, -95.37),
    ("US", "Phoenix", 33.45, -112.07),
    ("US", "Seattle", 47.61, -122.33),
    ("US", "Denver", 39.74, -104.99),
    ("US", "Atlanta", 33.75, -84.39),
    ("US", "Boston", 42.36, -71.06),
    ("GB", "London", 51.51, -0.13),
    ("GB", "Manchester", 53.48, -2.24),
    ("GB", "Leeds", 53.80, -1.55),
    ("GB", "Bristol", 51.45, -2.59),
    ("DE", "Berlin", 52.52, 13.40),
    ("DE", "Hamburg", 53.55, 9.99),
    ("DE", "Leipzig", 51.34, 12.37),
    ("FR", "Lyon", 45.76, 4.84),
    ("FR", "Nantes", 47.22, -1.55),
    ("FR", "Lille", 50.63, 3.06),
    ("IT", "Torino", 45.07, 7.69),
    ("IT", "Bologna", 44.49, 11.34),
    ("NL", "Utrecht", 52.09, 5.12),
    ("NL", "Rotterdam", 51.92, 4.48),
    ("ES", "Valencia", 39.47, -0.38),
    ("ES", "Sevilla", 37.39, -5.98),
    # Nobody lives in these; people travel there, and so do stolen cards.
    ("TR", "Istanbul", 41.01, 28.98),
    ("AE", "Dubai", 25.20, 55.27),
    ("TH", "Bangkok", 13.76, 100.50),
    ("MX", "Cancun", 21.16, -86.85),
    ("BR", "Sao Paulo", -23.55, -46.63),
    ("JP", "Tokyo", 35.68, 139.69),
)
"""Country, city, latitude and longitude in degrees."""

HOME = -1
"""Stands where an index into ``CITIES`` could stand, for around the customer's home."""

COUNTRIES = tuple(dict.fromkeys(country for country, *_ in CITIES))


@dataclass(frozen=True)
class Customers:
    """The customers, one entry per customer in every field; ``cards`` and ``ips`` are flattened, owner by owner.

    Attributes:
        country: Home country, ISO 3166 alpha-2.
        home: Latitude and longitude in degrees, shape ``(n, 2)``.
        spend: How much this customer spends compared with the average, about 1.
        activity: How often, compared with the average, about 1.
        opened: Day the account was opened, days since 1970-01-01.
        born: Date of birth, days since 1970-01-01.
        cards: Card numbers, ``CARDS_PER_CUSTOMER`` for each customer.
        ips: Internet addresses, ``ADDRESSES_PER_CUSTOMER`` for each customer.
    """

    customer_id: tuple[str, ...]
    first_name: tuple[str, ...]
    last_name: tuple[str, ...]
    email: tuple[str, ...]
    phone: tuple[str, ...]
    iban: tuple[str, ...]
    street_address: tuple[str, ...]
    city: tuple[str, ...]
    postal_code: tuple[str, ...]
    country: tuple[str, ...]
    cards: tuple[str, ...]
    ips: tuple[str, ...]
    born: NDArray[np.int64]
    opened: NDArray[np.int64]
    home: NDArray[np.float64]
    spend: NDArray[np.float64]
    activity: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of customers."""
        return len(self.customer_id)

    @property
    def name(self) -> tuple[str, ...]:
        """First and last name as the card shows them."""
        return tuple(f"{first} {last}" for first, last in zip(self.first_name, self.last_name, strict=True))


@lru_cache(maxsize=2)
def draw_customers(seed: int, count: int = POPULATION) -> Customers:
    """Draw the customers of the bank.

    Args:
        seed: Same seed, same people.
        count: How many.

    Returns:
        The customers, in no particular order; kept for the next month, so not to be written to.
    """
    import numpy as np
    from faker import Faker

    rng = np.random.default_rng([seed, 1])
    countries = list(LOCALES)
    fakers = {}
    for number, (country, (locale, _)) in enumerate(LOCALES.items()):
        fakers[country] = Faker(locale)
        fakers[country].seed_instance(seed * 100 + number)
    shares = np.array([share for _, share in LOCALES.values()])
    country_of = [countries[i] for i in rng.choice(len(countries), count, p=shares / shares.sum())]
    cities = {country: [place for place in CITIES if place[0] == country] for country in countries}
    lots = rng.integers(0, 24, count)
    homes = [cities[country][lot % len(cities[country])] for country, lot in zip(country_of, lots, strict=True)]

    first_name = tuple(fakers[country].first_name() for country in country_of)
    last_name = tuple(fakers[country].last_name() for country in country_of)
    numbers = rng.integers(1, 100, count)
    domains = rng.choice(["example.com", "example.org", "example.net", "mail.example.com"], count)
    return Customers(
        customer_id=tuple(f"C{number}" for number in rng.choice(90_000_000, count, replace=False) + 10_000_000),
        first_name=first_name,
        last_name=last_name,
        email=tuple(
            f"{_ascii(first)}.{_ascii(last)}{number}@{domain}"
            for first, last, number, domain in zip(first_name, last_name, numbers, domains, strict=True)
        ),
        phone=tuple(fakers[country].phone_number() for country in country_of),
        iban=tuple(fakers[country].iban() for country in country_of),
        street_address=tuple(fakers[country].street_address().replace("\n", ", ") for country in country_of),
        city=tuple(place[1] for place in homes),
        postal_code=tuple(fakers[country].postcode() for country in country_of),
        country=tuple(country_of),
        cards=_card_numbers(rng, count * CARDS_PER_CUSTOMER),
        ips=public_addresses(rng, count * ADDRESSES_PER_CUSTOMER),
        born=_days("1936-01-01") + rng.integers(0, 72 * 365, count),
        opened=_days("2014-01-01") + (12 * 365 * rng.beta(1.4, 1.2, count)).astype(np.int64),
        home=np.array([place[2:] for place in homes]) + rng.normal(0, 0.08, (count, 2)),
        spend=np.exp(rng.normal(0, 0.4, count)),
        activity=rng.gamma(3.0, 1 / 3, count),
    )


def public_addresses(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """Return ``count`` IPv4 addresses, none of them from a private or reserved block."""
    blocks = rng.choice([23, 37, 46, 62, 77, 81, 84, 91, 98, 108, 142, 151, 176, 185, 212], count)
    rest = rng.integers(1, 255, (count, 3))
    return tuple(f"{block}.{a}.{b}.{c}" for block, (a, b, c) in zip(blocks.tolist(), rest.tolist(), strict=True))


def luhn_digit(digits: Iterable[int]) -> int:
    """Return the check digit that ISO/IEC 7812-1 (Luhn) puts after ``digits``."""
    total = 0
    for position, digit in enumerate(reversed(list(digits))):
        doubled = digit * 2 if position % 2 == 0 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return -total % 10


def _card_numbers(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """Return 16-digit numbers of the two large schemes, with a valid check digit."""
    import numpy as np

    digits = rng.integers(0, 10, (count, 15))
    mastercard = rng.random(count) < 0.4
    digits[:, 0] = np.where(mastercard, 5, 4)
    digits[:, 1] = np.where(mastercard, 1 + digits[:, 1] % 5, digits[:, 1])
    return tuple("".join(map(str, row)) + str(luhn_digit(row)) for row in digits.tolist())


def _ascii(name: str) -> str:
    """Return the letters of a name as an e-mail address spells them."""
    folded = unicodedata.normalize("NFKD", name.replace("ß", "ss").replace("ø", "o")).encode("ascii", "ignore").decode()
    return "".join(letter for letter in folded.lower() if letter.isalnum())


def _days(date: str) -> int:
    """Return an ISO date as days since 1970-01-01."""
    import numpy as np

    return int(np.datetime64(date, "D").astype(np.int64))
