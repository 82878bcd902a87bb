"""Card transactions of invented customers over a month, honest ones and fraud, with features from their own history.

Honest life: each customer has a rhythm (how often, day and night), a level of spending and a home; some travel for a
few days, some buy several things within minutes, now and then something is expensive.

Fraud comes in episodes, see ``fraud_patterns``.

Velocity and amount features are computed from the generated history of the customer and from nothing else. The
week before the month is simulated too and then dropped, so that the first rows of the month have a past.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kfp_custody.pipelines.fraud_detection.fraud_patterns import DAY, draw_episode
from kfp_custody.pipelines.fraud_detection.merchants import ATM, BRANDS, CATEGORIES, INDEX, ONLINE, PHONE, POS
from kfp_custody.pipelines.fraud_detection.people import (
    ADDRESSES_PER_CUSTOMER,
    CARDS_PER_CUSTOMER,
    CITIES,
    COUNTRIES,
    HOME,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kfp_custody.pipelines.fraud_detection.people import Customers

    Columns = dict[str, NDArray[Any]]

HISTORY_DAYS = 7
"""``seconds_since_last`` counts no further back than this."""

ROWS_PER_CUSTOMER = 30
"""Transactions of the average customer in a month."""

FRAUD_SHARE = 0.006
NO_TRANSACTION_BEFORE = float(HISTORY_DAYS * DAY)

# A customer without a past is taken for an average one: five transactions of this amount.
_USUAL_AMOUNT, _USUAL_WEIGHT = 50.0, 5
_EARTH_RADIUS_KM = 6371.0


@dataclass(frozen=True)
class Drift:
    """What changes from one month to the next.

    Attributes:
        inflation: Factor on every honest amount.
        online: Share of the purchases in a shop that moves online.
        tempo: Factor on how often a customer pays.
        hours: Hours by which the day of everybody moves towards the night.
        travel: Factor on the number of travellers.
    """

    inflation: float = 1.0
    online: float = 0.0
    tempo: float = 1.0
    hours: float = 0.0
    travel: float = 1.0


def simulate(
    rng: np.random.Generator, people: Customers, *, rows: int, first_day: int, days: int, drift: Drift
) -> Columns:
    """Simulate a month.

    Args:
        rng: Source of randomness.
        people: The customers. A month of few rows is lived by few of them, chosen evenly over homes and wealth, so
            that everybody's rhythm is the same in a small month and in a large one.
        rows: Transactions in the month.
        first_day: First day of the month, days since 1970-01-01.
        days: Days in the month.
        drift: What differs from an ordinary month.

    Returns:
        Arrays of length ``rows`` in order of time: ``customer``, ``card``, ``ip`` (indices into ``people``),
        ``seconds`` (since 1970-01-01 UTC), ``category``, ``brand``, ``channel``, ``country`` (indices into the tables
        here), ``is_fraud`` and the feature columns by name.
    """
    import numpy as np

    active = _active(people, round(rows / (ROWS_PER_CUSTOMER * drift.tempo)))
    frauds = round(rows * FRAUD_SHARE)
    start = first_day * DAY
    fraud = _fraud(rng, people, active, frauds, start, days)
    honest = _honest(rng, people, active, rows - frauds, start, days, drift)
    events = {name: np.concatenate([honest[name], fraud[name]]) for name in honest}
    events["amount"] = np.maximum(np.round(events["amount"], 2), 0.5)
    events["is_fraud"] = np.repeat([0, 1], [len(honest["seconds"]), frauds])
    events |= _geography(rng, people, events)

    order = np.lexsort((events["seconds"], events["customer"]))
    events = {name: values[order] for name, values in events.items()}
    events |= _features(people, events)
    keep = np.flatnonzero(events["seconds"] >= start)
    keep = keep[np.argsort(events["seconds"][keep], kind="stable")]
    return {name: values[keep] for name, values in events.items()}


def _active(people: Customers, wanted: int) -> NDArray[np.int64]:
    """Choose customers evenly over home country, city and level of spending."""
    import numpy as np

    _, city = np.unique(people.city, return_inverse=True)
    _, country = np.unique(people.country, return_inverse=True)
    order = np.lexsort((people.spend, city, country))
    return order[np.linspace(0, len(people) - 1, min(max(wanted, 1), len(people))).astype(np.int64)]


def _honest(
    rng: np.random.Generator,
    people: Customers,
    active: NDArray[np.int64],
    rows: int,
    start: int,
    days: int,
    drift: Drift,
) -> Columns:
    """Draw the honest transactions: ``rows`` in the month and as many per day in the week before."""
    import numpy as np

    before = round(rows * HISTORY_DAYS / days)
    count = rows + before
    weight = people.activity[active]
    customer = rng.choice(active, count, p=weight / weight.sum())
    category = rng.choice(len(CATEGORIES), count, p=_normal([c.share for c in CATEGORIES]))
    level, online, phone = np.array([(c.amount, c.online, c.phone) for c in CATEGORIES])[category].T

    # A shop that nobody can visit online (fuel, cash) stays what it is however much else moves.
    online = np.where(online > 0, online + drift.online * (1 - online - phone), 0.0)
    draw = rng.random(count)
    channel = np.select([draw < online, draw < online + phone], [ONLINE, PHONE], POS)
    channel[category == INDEX["cash"]] = ATM

    week = _normal([0.95, 0.93, 0.97, 1.0, 1.15, 1.25, 0.9])
    first = start // DAY
    in_month, earlier = np.arange(first, first + days), np.arange(first - HISTORY_DAYS, first)
    day = np.concatenate(
        [
            rng.choice(earlier, before, p=_normal(week[_weekday(earlier)])),
            rng.choice(in_month, rows, p=_normal(week[_weekday(in_month)])),
        ]
    )
    awake = np.where(channel == ONLINE, rng.normal(18.5, 4.5, count), rng.normal(14.5, 3.8, count))
    seconds = day * DAY + ((awake + drift.hours) % 24 * 3600).astype(np.int64)
    seconds = _baskets(rng, customer, seconds, start, start + days * DAY)

    amount = level * people.spend[customer] * np.exp(rng.normal(0, 0.65, count))
    amount *= np.where(rng.random(count) < 0.02, rng.uniform(3, 8, count), 1.0)
    amount *= drift.inflation
    amount[channel == ATM] = np.maximum(np.round(amount[channel == ATM] / 10), 1) * 10

    place, away = _places(rng, people, customer, channel, seconds, start, days, drift)
    return {
        "customer": customer,
        "seconds": seconds,
        "category": category,
        "brand": rng.integers(0, len(BRANDS), count),
        "channel": channel,
        "amount": amount,
        "place": place,
        "away": away,
        "card": customer * CARDS_PER_CUSTOMER + (rng.random(count) < 0.25),
        "ip": customer * ADDRESSES_PER_CUSTOMER + rng.choice(ADDRESSES_PER_CUSTOMER, count, p=(0.7, 0.2, 0.1)),
    }


def _baskets(
    rng: np.random.Generator, customer: NDArray[np.int64], seconds: NDArray[np.int64], start: int, end: int
) -> NDArray[np.int64]:
    """Move one transaction in twenty to within minutes of the same customer's one before: honest bursts."""
    import numpy as np

    order = np.lexsort((seconds, customer))
    moved = seconds[order]
    follows = (np.diff(customer[order]) == 0) & (moved[:-1] >= start) & (rng.random(len(order) - 1) < 0.05)
    follows = np.flatnonzero(follows) + 1
    moved[follows] = np.minimum(moved[follows - 1] + rng.exponential(420, len(follows)).astype(np.int64) + 20, end - 1)
    result = np.empty_like(seconds)
    result[order] = moved
    return result


def _places(
    rng: np.random.Generator,
    people: Customers,
    customer: NDArray[np.int64],
    channel: NDArray[np.int64],
    seconds: NDArray[np.int64],
    start: int,
    days: int,
    drift: Drift,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Say where each honest transaction happens.

    Returns:
        ``place``: index into ``CITIES``, or ``HOME``. ``away``: spread around that place in km.
    """
    import numpy as np

    count = len(customer)
    departs = start + rng.uniform(-HISTORY_DAYS, days, len(people)) * DAY
    returns = departs + rng.uniform(2, 9, len(people)) * DAY
    travels = rng.random(len(people)) < 0.15 * drift.travel
    destination = rng.integers(0, len(CITIES), len(people))
    travelling = travels[customer] & (seconds >= departs[customer]) & (seconds < returns[customer])

    place = np.where(travelling, destination[customer], HOME)
    # An online shop sits anywhere; three in four are at home as far as the acquirer can tell.
    remote = ((channel == ONLINE) & (rng.random(count) < 0.10)) | (rng.random(count) < 0.012)
    place = np.where(remote, rng.integers(0, len(CITIES), count), place)
    away = np.where(rng.random(count) < 0.06, rng.exponential(60, count), rng.exponential(5, count))
    return place, away


def _fraud(
    rng: np.random.Generator, people: Customers, active: NDArray[np.int64], frauds: int, start: int, days: int
) -> Columns:
    """Draw fraud episodes until there are ``frauds`` transactions; the last episode may be cut short."""
    import numpy as np

    weight = _normal(people.activity[active])
    thefts: list[tuple[float, ...]] = []
    while len(thefts) < frauds:
        victim = int(rng.choice(active, p=weight))
        midnight = start + int(rng.integers(0, days - 1)) * DAY
        thefts += [(victim, *theft) for theft in draw_episode(rng, people, victim, midnight)]
    names = ("customer", "seconds", "category", "channel", "amount", "place", "away")
    columns: Columns = {
        name: np.array(values) for name, values in zip(names, zip(*thefts[:frauds], strict=True), strict=True)
    }
    mine = columns["customer"] * ADDRESSES_PER_CUSTOMER
    remote = np.isin(columns["channel"], (ONLINE, PHONE))
    return columns | {
        "brand": rng.integers(0, len(BRANDS), frauds),
        "card": columns["customer"] * CARDS_PER_CUSTOMER,
        # A remote thief comes from an address that is some other customer's.
        "ip": np.where(remote, rng.integers(0, len(people.ips), frauds), mine),
    }


def _geography(rng: np.random.Generator, people: Customers, events: Columns) -> Columns:
    """Turn place and spread into country and distance; the customer's home is the origin.

    Returns:
        ``country``: index into ``COUNTRIES``. ``is_foreign``: bool. ``distance_from_home_km``: great-circle, in km.
    """
    import numpy as np

    customer, place, away = events["customer"], events["place"], events["away"]
    at_home = place == HOME
    origin = np.where(at_home[:, None], people.home[customer], np.array([city[2:] for city in CITIES])[place])
    direction = rng.uniform(0, 2 * np.pi, len(customer))
    latitude = origin[:, 0] + away * np.sin(direction) / 111.2
    longitude = origin[:, 1] + away * np.cos(direction) / (111.2 * np.cos(np.radians(origin[:, 0])))
    home_country = np.array([COUNTRIES.index(country) for country in people.country])[customer]
    country = np.where(at_home, home_country, np.array([COUNTRIES.index(city[0]) for city in CITIES])[place])
    a, b = np.radians(people.home[customer]), np.radians(np.column_stack([latitude, longitude]))
    haversine = (
        np.sin((b[:, 0] - a[:, 0]) / 2) ** 2 + np.cos(a[:, 0]) * np.cos(b[:, 0]) * np.sin((b[:, 1] - a[:, 1]) / 2) ** 2
    )
    return {
        "country": country,
        "is_foreign": country != home_country,
        "distance_from_home_km": np.round(2 * _EARTH_RADIUS_KM * np.arcsin(np.sqrt(haversine)), 2),
    }


def _features(people: Customers, events: Columns) -> Columns:
    """Compute what a bank knows at the moment of payment.

    Args:
        people: The customers.
        events: Columns sorted by customer, then by time.

    Returns:
        The feature columns, in the same order. Counts and sums are over the 24 hours before the transaction and
        do not contain it; ``amount_ratio`` is against the mean of the customer's earlier amounts.
    """
    import numpy as np

    customer, seconds, amount = events["customer"], events["seconds"], events["amount"]
    index = np.arange(len(seconds))
    new = np.diff(customer, prepend=-1) != 0
    first = np.maximum.accumulate(np.where(new, index, 0))
    gap = np.diff(seconds, prepend=seconds[0]).astype(np.float64)
    # One search over all customers at once: no customer's last second comes near the next one's first.
    moment = customer * (1 << 40) + seconds
    since = np.searchsorted(moment, moment - DAY)
    spent = np.concatenate([[0.0], np.cumsum(amount)])
    usual = (spent[index] - spent[first] + _USUAL_AMOUNT * _USUAL_WEIGHT) / (index - first + _USUAL_WEIGHT)
    day = seconds // DAY
    return {
        "hour": seconds % DAY // 3600,
        "day_of_week": _weekday(day),
        "account_age_days": day - people.opened[customer],
        "seconds_since_last": np.minimum(np.where(new, NO_TRANSACTION_BEFORE, gap), NO_TRANSACTION_BEFORE),
        "transactions_24h": index - since,
        "amount_24h": np.round(np.abs(spent[index] - spent[since]), 2),
        "amount_ratio": np.round(amount / usual, 3),
    }


def _weekday(day: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0 for Monday to 6 for Sunday; 1970-01-01 was a Thursday."""
    return (day + 3) % 7


def _normal(weights: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights divided by their sum."""
    import numpy as np

    values = np.asarray(weights, dtype=np.float64)
    return values / values.sum()
