"""Fraud on payment cards, in episodes on one customer's card, after the patterns that card issuers describe.

* *card testing*: two to five purchases under about six units online within minutes, then one to three large ones;
* *account takeover*: mostly between midnight and six, online or by phone, often abroad, several times the usual amount;
* *lost or stolen card*: cash withdrawals and shopping 20 to 600 km from home (or abroad) within a few hours;
* *unnoticed*: one ordinary-looking purchase. Nothing in the data gives it away, so no model reaches a perfect score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kfp_custody.pipelines.fraud_detection.merchants import ATM, CATEGORIES, INDEX, ONLINE, PHONE, POS
from kfp_custody.pipelines.fraud_detection.people import CITIES, HOME

if TYPE_CHECKING:
    import numpy as np

    from kfp_custody.pipelines.fraud_detection.people import Customers

DAY = 86_400


class Theft(NamedTuple):
    """One fraudulent transaction.

    Attributes:
        seconds: Since 1970-01-01 UTC.
        category: Index into ``CATEGORIES``.
        channel: Index into ``CHANNELS``.
        amount: In units of account.
        place: Index into ``CITIES``, or ``HOME`` for around the victim's home.
        away: Distance from that place, km.
    """

    seconds: int
    category: int
    channel: int
    amount: float
    place: int
    away: float


def draw_episode(rng: np.random.Generator, people: Customers, victim: int, midnight: int) -> list[Theft]:
    """Draw one episode of one of the patterns.

    Args:
        rng: Source of randomness.
        people: The customers.
        victim: Index of the customer whose card it is.
        midnight: Begin of the day on which it starts, seconds since 1970-01-01 UTC.

    Returns:
        Its transactions in order of time.
    """
    patterns = (_card_testing, _takeover, _stolen_card, _unnoticed)
    return patterns[int(rng.choice(len(patterns), p=(0.33, 0.30, 0.22, 0.15)))](rng, people, victim, midnight)


def _card_testing(rng: np.random.Generator, people: Customers, victim: int, midnight: int) -> list[Theft]:
    seconds = midnight + int(rng.integers(0, DAY))
    place = int(rng.integers(len(CITIES))) if rng.random() < 0.45 else HOME
    thefts: list[Theft] = []
    for _ in range(rng.integers(2, 6)):
        category = _pick(rng, "digital_goods", "entertainment", "gift_cards")
        thefts.append(Theft(seconds, category, ONLINE, float(rng.uniform(0.5, 6)), place, 20.0))
        seconds += 15 + int(rng.exponential(120))
    for _ in range(rng.integers(1, 4)):
        seconds += 120 + int(rng.exponential(1500))
        category = _pick(rng, "electronics", "gift_cards", "fashion", "travel")
        thefts.append(Theft(seconds, category, ONLINE, _large(rng, people, victim, 170), place, 20.0))
    return thefts


def _takeover(rng: np.random.Generator, people: Customers, victim: int, midnight: int) -> list[Theft]:
    hour = rng.uniform(0, 6) if rng.random() < 0.75 else rng.uniform(0, 24)
    seconds = midnight + int(hour * 3600)
    place = int(rng.integers(len(CITIES))) if rng.random() < 0.7 else HOME
    thefts: list[Theft] = []
    for _ in range(rng.integers(2, 5)):
        channel = ONLINE if rng.random() < 0.8 else PHONE
        category = _pick(rng, "electronics", "travel", "gift_cards", "fashion", "home")
        thefts.append(Theft(seconds, category, channel, _large(rng, people, victim, 210), place, 20.0))
        seconds += 60 + int(rng.exponential(2400))
    return thefts


def _stolen_card(rng: np.random.Generator, people: Customers, victim: int, midnight: int) -> list[Theft]:
    seconds = midnight + int(rng.uniform(8, 22) * 3600)
    place = int(rng.integers(len(CITIES))) if rng.random() < 0.3 else HOME
    away = float(rng.uniform(20, 600))
    thefts: list[Theft] = []
    for _ in range(rng.integers(2, 6)):
        if rng.random() < 0.6:
            thefts.append(Theft(seconds, INDEX["cash"], ATM, float(rng.integers(8, 51) * 10), place, away))
        else:
            category = _pick(rng, "fuel", "grocery", "electronics", "fashion")
            thefts.append(Theft(seconds, category, POS, _large(rng, people, victim, 110), place, away))
        seconds += 60 + int(rng.exponential(3000))
    return thefts


def _unnoticed(rng: np.random.Generator, people: Customers, victim: int, midnight: int) -> list[Theft]:
    seconds = midnight + int(rng.normal(15, 4) % 24 * 3600)
    category = int(rng.integers(len(CATEGORIES) - 1))
    amount = CATEGORIES[category].amount * people.spend[victim] * float(rng.lognormal(0, 0.8))
    channel = ONLINE if rng.random() < 0.5 else POS
    return [Theft(seconds, category, channel, amount, HOME, float(rng.exponential(8)))]


def _large(rng: np.random.Generator, people: Customers, victim: int, level: float) -> float:
    """Return an amount that is worth the thief's while, and that an honest customer sometimes spends as well."""
    return level * float(people.spend[victim]) * float(rng.lognormal(0, 0.75))


def _pick(rng: np.random.Generator, *names: str) -> int:
    """Return the index of one of the named categories."""
    return INDEX[names[int(rng.integers(len(names)))]]
