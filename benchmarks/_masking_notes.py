"""Seeded notes and tables with personal data, to measure how fast they are examined."""

import random
from collections.abc import Callable

FIRST = "Anna Ben Carla David Elena Farid Grace Hiro Ivan Jia Karim Lena Marco Nadia Omar Priya Quentin Rosa Sven Tariq"
LAST = "Schmidt Rossi Nguyen Patel Smith Johnson O'Brien Garcia Kowalski Tanaka Ivanov Dubois Andersson Silva Haddad"
CITIES = "Boston London Hamburg Lyon Madrid Oslo Denver Seattle Milan Osaka Leeds Austin Porto Ghent Basel"
MERCHANTS = ("Corner Grocery", "Metro Fuel", "Blue Lake Books", "Harbour Hotel", "Quick Parts", "Sunrise Bakery")
TEMPLATES = (
    "Spoke with {name} from {city} about card {card}; call back at {phone} before Friday, ticket {ticket}.",
    "{name} ({email}) moved to {street}, {city}. Please update the address and confirm by mail to {other}.",
    "Customer says the payment of {amount} EUR on {date} to {iban} was not authorised. Escalated to {other}.",
    "Refund {amount} USD to {name}, account {iban}. SSN {ssn} was read out on the phone, delete recording {ticket}.",
    "Login from {ip} at {time}, user {email}, device unknown. Asked {name} to reset the password and call {phone}.",
    "The merchant in {city} confirmed delivery of order {ticket}. No further action. Closed by {other} on {date}.",
    "Nothing unusual: the cardholder travels often and had announced the trip to {city} in advance. Case {ticket}.",
    "Dear team, {name} disputes three charges made in {city} last week, {amount} USD each. Regards, {other}",
    "Second request after {date}. The account was opened in {city}; the letter to {street} came back. Ask {name}.",
    "Chargeback {ticket} accepted for {amount} GBP. Merchant said the goods were returned by {other} in {city}.",
)


def notes(count: int, seed: int) -> list[str]:
    """Return notes of about 115 characters, no two alike."""
    rng = random.Random(seed)
    return [rng.choice(TEMPLATES).format(**{name: make(rng) for name, make in VALUES.items()}) for _ in range(count)]


def table(rows: int, seed: int) -> dict[str, list[str]]:
    """Return nine columns of text: names, addresses and numbers, places that recur, and a note."""
    rng = random.Random(seed)
    columns: dict[str, Callable[[random.Random], str]] = {
        name: VALUES[name] for name in ("name", "email", "card", "iban", "phone", "amount")
    }
    columns |= {"merchant": lambda chance: chance.choice(MERCHANTS), "city": VALUES["city"]}
    return {name: [make(rng) for _ in range(rows)] for name, make in columns.items()} | {"note": notes(rows, seed + 1)}


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("0123456789", k=count))


def _name(rng: random.Random) -> str:
    return f"{rng.choice(FIRST.split())} {rng.choice(LAST.split())}"


def _email(rng: random.Random) -> str:
    return f"{rng.choice(FIRST.split()).lower()}.{rng.choice(LAST.split()).lower().replace(chr(39), '')}@example.com"


VALUES: dict[str, Callable[[random.Random], str]] = {
    "name": _name,
    "other": _name,
    "email": _email,
    "city": lambda rng: rng.choice(CITIES.split()),
    "street": lambda rng: f"{rng.randrange(1, 900)} {rng.choice(LAST.split())} Street",
    "card": lambda rng: "4" + _digits(rng, 15),
    "iban": lambda rng: "DE" + _digits(rng, 20),
    "phone": lambda rng: f"+1 {_digits(rng, 3)}-{_digits(rng, 3)}-{_digits(rng, 4)}",
    "amount": lambda rng: f"{rng.randrange(1, 9000)}.{_digits(rng, 2)}",
    "date": lambda rng: f"{rng.randrange(1, 29)} {rng.choice(('March', 'May', 'June'))} 2024",
    "time": lambda rng: f"{rng.randrange(24)}:{rng.randrange(10, 60)}",
    "ip": lambda rng: ".".join(str(rng.randrange(1, 255)) for _ in range(4)),
    "ssn": lambda rng: f"{rng.randrange(100, 700)}-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}",
    "ticket": lambda rng: f"{rng.choice('ABCDEF')}-{_digits(rng, 5)}",
}
