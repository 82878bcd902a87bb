"""Free-text memos as people type them into a transfer form, with an exact key of the personal data in them.

The key is what makes recall measurable: for every memo the character spans that hold personal data, and of which
kind. It must never lie inside the dataset that is masked.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfp_custody.pipelines.fraud_detection.people import ADDRESSES_PER_CUSTOMER, CARDS_PER_CUSTOMER

if TYPE_CHECKING:
    import numpy as np

    from kfp_custody.pipelines.fraud_detection.people import Customers

ENTITIES = (
    *("PERSON", "PHONE_NUMBER", "EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS"),
    *("ADDRESS", "DATE_OF_BIRTH"),
)
"""Kinds of personal data in the key. All but ``ADDRESS`` and ``DATE_OF_BIRTH`` are Presidio's own names."""

PERSONAL_SHARE = 0.65
"""Share of the memos that hold personal data; the others show what a detector takes for personal and is not."""

PERSONAL = (
    "Rent {month} from {name}, any question call {phone}",
    "Refund to {name}, IBAN {iban}",
    "Gift for {payee}, happy birthday!",
    "Invoice {ref} paid by {name} <{email}>",
    "Please send the receipt to {email}",
    "Card {card} was declined twice, paid with the other one",
    "Deliver to {address} and ring at {payee}",
    "Split dinner with {payee} and {name}",
    "School fees for {payee}, contact {email} or {phone}",
    "Standing order to {payee}, {iban}",
    "Caller {name}, born {born}, asked to raise the limit",
    "Login from {ip} confirmed by {name}",
    "My new address is {address}",
    "{shouted} RENT {ref}",
    "thanks {first}! see you on Sunday",
    "tel {phone} for pickup",
    "loan payback {initial}",
    "Deposit for the flat at {address}, landlord {payee}, {phone}",
    "Chargeback opened by {name}: card {card}, mail {email}",
    "Transfer from {iban} for {payee}",
    "Room 214 booked by Ms {last}, two nights",
    "{payee} owes me for the concert, write to {email}",
    "lost card {card}, customer reachable at {phone}",
    "Customer says {ip} is not his, please block {card}",
    "for {payee} with love from {first}",
    "Meter reading sent by {name}, {address}",
    "reimburse {initial}, {email}",
    "ID check: {name}, date of birth {born}, {address}",
)
PLAIN = (
    "Order {ref} shipped, thank you",
    "Monthly subscription, plan B",
    "Fuel and car wash",
    "Invoice {ref} settled in full",
    "Groceries for the weekend",
    "Gym membership {month}",
    "Parking zone 4, two hours",
    "Ticket {ref} refunded",
    "coffee",
    "Return of item {ref}, size too small",
    "Cash for the market",
    "Office supplies, cost centre {number}",
    "Annual fee waived this year",
    "Terminal {number} was offline, payment repeated",
    "Dinner with colleagues",
    "Insurance premium, contract {ref}",
)
MONTHS = ("January", "March", "May", "June", "September", "October", "December")


@dataclass(frozen=True)
class Span:
    """Personal data in a memo: ``text[start:end]``, counted in characters, is of the kind ``entity``."""

    start: int
    end: int
    entity: str


@dataclass(frozen=True)
class Memo:
    """One memo and the personal data in it, from left to right."""

    text: str
    spans: tuple[Span, ...]


def write_memos(rng: np.random.Generator, people: Customers, owners: Sequence[int]) -> list[Memo]:
    """Write one memo for each of ``owners``.

    Args:
        rng: Source of randomness.
        people: The customers; payees are customers too.
        owners: For each memo, the index of the customer who writes it.

    Returns:
        The memos in the order of ``owners``.
    """
    return [_fill(_template(rng), _slots(rng, people, owner)) for owner in owners]


def key_lines(transaction_ids: Iterable[str], memos: Iterable[Memo]) -> bytes:
    """Return the known-PII key: JSON lines, one per memo, also for those without personal data."""
    rows = (
        {
            "transaction_id": transaction_id,
            "spans": [
                {"start": span.start, "end": span.end, "entity": span.entity, "text": memo.text[span.start : span.end]}
                for span in memo.spans
            ],
        }
        for transaction_id, memo in zip(transaction_ids, memos, strict=True)
    )
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _template(rng: np.random.Generator) -> str:
    """Pick a sentence."""
    choices = PERSONAL if rng.random() < PERSONAL_SHARE else PLAIN
    return choices[int(rng.integers(len(choices)))]


def _slots(rng: np.random.Generator, people: Customers, owner: int) -> dict[str, tuple[str, str | None]]:
    """Return what may stand in each slot: the words, and which kind of personal data they are (None for none)."""
    payee = int(rng.integers(len(people)))
    card = people.cards[owner * CARDS_PER_CUSTOMER + int(rng.integers(CARDS_PER_CUSTOMER))]
    separator = ("", " ", "-")[int(rng.integers(3))]
    grouped = separator.join(card[i : i + 4] for i in range(0, 16, 4))
    iban = people.iban[owner]
    spaced = rng.random() < 0.3
    day = str(people.born[owner].astype("datetime64[D]"))
    born = day if rng.random() < 0.5 else f"{day[8:]}/{day[5:7]}/{day[:4]}"
    number = int(rng.integers(10_000, 99_999))
    month = MONTHS[int(rng.integers(len(MONTHS)))]
    first, last = people.first_name[owner], people.last_name[owner]
    return {
        "name": (f"{first} {last}", "PERSON"),
        "payee": (f"{people.first_name[payee]} {people.last_name[payee]}", "PERSON"),
        "first": (first, "PERSON"),
        "last": (last, "PERSON"),
        "initial": (f"{first[0]}. {last}", "PERSON"),
        "shouted": (f"{last} {first}".upper(), "PERSON"),
        "email": (people.email[owner], "EMAIL_ADDRESS"),
        "phone": (people.phone[owner], "PHONE_NUMBER"),
        "card": (grouped, "CREDIT_CARD"),
        "iban": (" ".join(iban[i : i + 4] for i in range(0, len(iban), 4)) if spaced else iban, "IBAN_CODE"),
        "ip": (people.ips[owner * ADDRESSES_PER_CUSTOMER], "IP_ADDRESS"),
        "address": (f"{people.street_address[owner]}, {people.city[owner]}", "ADDRESS"),
        "born": (born, "DATE_OF_BIRTH"),
        "ref": (f"{number // 10}-{number % 89 + 10}", None),
        "number": (str(number // 10), None),
        "month": (month, None),
    }


def _fill(template: str, slots: dict[str, tuple[str, str | None]]) -> Memo:
    """Fill a template and note where the personal data went."""
    text, spans = "", []
    for literal, slot, _, _ in string.Formatter().parse(template):
        text += literal
        if slot is None:
            continue
        words, entity = slots[slot]
        if entity is not None:
            spans.append(Span(len(text), len(text) + len(words), entity))
        text += words
    return Memo(text, tuple(spans))
