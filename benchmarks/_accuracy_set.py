"""Texts with the places of the personal data in them, from templates and a seed.

A template belongs to one of two halves by the first byte of its SHA-256: even is held out, odd is for development.
Rules may be written with the development half in view; figures are reported of the held-out half only. Names,
organisations and towns are drawn from the same lists in both.
"""

import calendar
import hashlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TEMPLATES = """
Hello {person}, your refund for order 88213 was sent to {email} on {date}.
Customer {person} called from {phone}; the terminal shows error 41 since {date}.
Ticket closed: {first} reset the router at {ip} and confirmed by {email}.
Please ship the replacement to {person}, {address}.
The user reports that {url} is slow when logged in from {ip}.
Caller says the card {card} was declined twice at {org}.
{person} wants the invoice addressed to {org}, {address}.
Escalated to {first} {last}, reachable at {phone} until six.
Dear {title} {last}, thank you for your letter of {date}. We will answer within ten days.
Dear Sir or Madam, I live at {address} and have had no heating since {date}. Yours, {person}
To whom it may concern: {person} has rented the flat at {address} and always paid on time.
My dear {first}, the garden in {city} is lovely this year. Your aunt {first2}
Enclosed please find the contract between {org} and {person}, signed in {city} on {date}.
We regret to tell you that {title} {last} no longer works for {org}.
Our solicitor, {person}, can be reached at {phone} or {email}.
I moved from {city} to {city2} and my new address is {address}.
Patient {person}, {age}, was admitted on {date} with chest pain.
{title} {last} was seen in clinic; the wound heals well. Next visit {date}.
Pt is a {age} from {city}, MRN {mrn}, no known allergies.
Referred by Dr. {last} of {org} for a second opinion.
Discharge summary for {person}: ibuprofen 400 mg three times a day, call {phone} if fever returns.
Mother of the patient, {person}, lives at {address}, tel. {phone}.
Blood group A positive. Contact in emergencies: {person}, {phone}.
Vaccinated on {date} by nurse {first} {last}, batch 4C-118.
Interview notes: {person} has six years at {org} and can start on {date}.
New starter {person}, employee number {employee}, born {date}, will sit on the third floor.
{first} asked for parental leave from {date}; {first2} covers her shifts.
Please update the payroll: {person}, SSN {ssn}, account {iban}.
Passport {passport} of {person} expires on {date}, visa to be renewed.
Exit talk with {title} {last}: moving back to {city}, forwarding address {address}.
Reference check: spoke with {person} at {org} ({phone}), very positive.
The driving licence of {person}, number {licence}, was copied on {date}.
Transfer of 2,400.00 to {iban}, beneficiary {person}, reference rent.
Wire from {org}, {city}, held for review; the originator is {person}.
Chargeback on {card}; the holder {person} says she was in {city} that day.
KYC: {person}, born {date}, {address}, passport {passport}.
Standing order to {person} at {org} cancelled by phone from {phone}.
The applicant's social security number {ssn} does not match the name {person}.
Suspicious login for {email} from {ip}, card {card} blocked.
Loan officer {last} approved 40,000 over five years for {person} of {city}.
hey {first} its {first2}, new number {phone}, delete the old one
lol {first} left her bag at {org} again, can u call her on {phone}
meet me outside {address} at 8, {first} is driving
did {first} ever pay you back? her iban is {iban}
my email changed its {email} now, tell {first} too
ok so {person} from {city} wins the raffle!! dm your address
who gave {first} the wifi password, the box is on {ip}
check out {url}, {first} made it
Deposition of {person}, residing at {address}, taken on {date}.
The court heard that {last} met {person} in {city} on {date}.
Witness statement: I, {person}, aged {age}, saw the car near {address}.
Reservation for {person}, two nights from {date}, card {card}.
Flight booked for {title} {last}, passport {passport}, from {city} to {city2}.
Guest in room twelve, {person} of {org}, asked for a late checkout.
Student {person} transferred from {org}; guardian {person2}, {phone}.
Parents' evening: spoke with {title} {last} about {first}'s reading.
Claim by {person}: hit and run at {address}, {date}, policy number {policy}.
Adjuster {last} inspected the roof at {address} and took photos.
The insured, {person}, may be reached at {phone}, {email}.
Delivery failed: nobody at {address}, left with neighbour {last}.
Driver {first} reports that the gate code at {address} does not work.
Donation of 50 from {person}, {email}, in memory of {person2}.
Minutes: {first}, {first2} and {title} {last} present; {person} sent apologies.
Quote requested by {person}, purchasing, {org}, {address}, {phone}, {email}.
{person} ({email}) pushed a fix from {ip}; see {url}.
Tax return of {person}, SSN {ssn}, filed on {date}.
Landlord: {org}, {address}. Tenant: {person}. Rent due on the first.
As {person} told our reporter in {city}, the plant of {org} will close.
The package weighs 3.5 kg and fits through the letter box.
Restart the service, clear the cache, then run version 4.2 of the importer.
Quarterly revenue rose by 12 percent while costs stayed flat.
The soup needs salt, two onions and half an hour on a low flame.
Error 0x80070057 appears when the disk is full; free some space first.
All seats in coach C are taken, please use the next train.
The committee agreed to paint the fence green.
Please rate the delivery from one to five stars.
The battery lasts nine hours with the screen dimmed.
Remember to water the plants and close the windows.
""".strip().splitlines()

_FIRST = """
James|Mary|Robert|Patricia|Siobhan|Angus|Rhys|Niamh|Jürgen|Anneliese|Matthias|Élodie|François|
Amélie|Giulia|Matteo|Lucía|Joaquín|Inês|Thiago|Zofia|Grzegorz|Ingrid|Søren|Aino|Dimitra|Olena|
Dmitri|Fatima|Youssef|Leila|Mehmet|Ayşe|Amara|Chukwuemeka|Ngozi|Kwame|Thandiwe|Priya|Arjun|
Lakshmi|Wei|Xiaoming|Hiroshi|Yuki|Min-jun|Linh|Siti|Malia|Tane
""".replace("\n", "").split("|")
_LAST = """
Smith|Johnson|O'Connor|MacLeod|Llewellyn|Whitcombe|Müller|Schneider|Dubois|Lefèvre|Moreau|Rossi|
Esposito|García|Fernández|Silva|Oliveira|Kowalski|Nowak|Lindqvist|Sørensen|Virtanen|Papadopoulos|
Shevchenko|Ivanov|Haddad|Benali|Yılmaz|Okafor|Adeyemi|Mensah|Dlamini|Sharma|Iyer|Banerjee|Zhang|
Liu|Tanaka|Nakamura|Kim|Nguyen|Tran|Suharto|Kealoha|Parata|Fitzgerald|Abernathy|Castellanos|
Vandenberg|Kaplan
""".replace("\n", "").split("|")
_CITIES = """
Leeds|Galway|Aberdeen|Swansea|Portland|Tucson|Albuquerque|Des Moines|Toronto|Halifax|Wellington|
Perth|Hamburg|Graz|Lyon|Nantes|Bologna|Seville|Porto|Gdańsk|Uppsala|Tampere|Thessaloniki|Lviv|
Casablanca|Lagos|Accra|Durban|Pune|Chennai|Chengdu|Osaka|Busan|Hanoi|Surabaya
""".replace("\n", "").split("|")
_ORGS = """
Barclays|Deloitte|Northwind Traders|Halvorsen & Sons Ltd|Acme Logistics GmbH|Riverside Community College|
St. Mary's Hospital|Lakeview Medical Center|First National Bank|Tata Motors|Siemens|Banco Popular|
Greenfield Insurance Group|University of Otago|Kestrel Software Inc.|Oakwood Primary School|
Pacific Freight Co.
""".replace("\n", "").split("|")
_STREETS = """
Maple|Oak|Victoria|Church|Station|Mill|Kensington|Juniper|Lincoln|Harbour|Elgin|Wellesley
""".replace("\n", "").split("|")
_KINDS = """
Street|St|Road|Rd|Avenue|Ave|Lane|Drive|Close|Terrace|Boulevard|Court|Way
""".replace("\n", "").split("|")


@dataclass(frozen=True)
class Example:
    """A text and its personal data: (first character, character after the last, kind)."""

    text: str
    spans: tuple[tuple[int, int, str], ...]


def held_out(template: str) -> bool:
    """Whether a template is in the half that figures are reported of."""
    return hashlib.sha256(template.encode()).digest()[0] % 2 == 0


def examples(seed: int, each: int, *, development: bool = False) -> Iterator[Example]:
    """Yield texts.

    Args:
        seed: Equal seeds give equal texts.
        each: Texts made of each template.
        development: The other half of the templates.
    """
    rng = random.Random(seed)  # noqa: S311  (data of a benchmark)
    for template in TEMPLATES:
        for _ in range(each):
            example = _filled(template, rng)
            if held_out(template) != development:
                yield example


def _filled(template: str, rng: random.Random) -> Example:
    text, spans = "", []
    for part in re.split(r"(\{\w+\})", template):
        if part.startswith("{"):
            kind, make = FIELDS[part.strip("{}").rstrip("2")]
            value = make(rng)
            spans.append((len(text), len(text) + len(value), kind))
            text += value
        else:
            text += part
    return Example(text, tuple(spans))


def email(rng: random.Random) -> str:
    """Return an e-mail address; a third have no public suffix."""
    domain = rng.choice(("example.com", "mail.co.uk", "post.example.org", "corp.internal", "srv01.local", "web.de"))
    return f"{_ascii(rng.choice(_FIRST))}{rng.choice('._-')}{_ascii(rng.choice(_LAST))}{rng.randrange(99)}@{domain}"


def card(rng: random.Random) -> str:
    """Return a number of 15 or 16 digits with a right check digit."""
    prefix, size = rng.choice((("4", 16), ("52", 16), ("37", 15), ("6011", 16), ("2223", 16)))
    body = prefix + _digits(rng, size - len(prefix) - 1)
    doubled = sum(sum(divmod(int(digit) * 2, 10)) for digit in body[::-2])
    number = body + str(-(doubled + sum(map(int, body[-2::-2]))) % 10)
    return number if rng.random() < 0.5 else " ".join(number[at : at + 4] for at in range(0, size, 4))


def iban(rng: random.Random) -> str:
    """Return an account number with right check digits."""
    country, bank = rng.choice((("GB", "NWBK"), ("DE", ""), ("FR", ""), ("NL", "ABNA"), ("ES", "")))
    size = {"GB": 22, "DE": 22, "FR": 27, "NL": 18, "ES": 24}[country]
    body = bank + _digits(rng, size - 4 - len(bank))
    number = int("".join(str(int(character, 36)) for character in body + country + "00"))
    text = f"{country}{98 - number % 97:02d}{body}"
    return text if rng.random() < 0.5 else " ".join(text[at : at + 4] for at in range(0, size, 4))


def ssn(rng: random.Random) -> str:
    """Return a US social security number that could be given out."""
    return f"{rng.randrange(1, 665):03d}-{rng.randrange(1, 100):02d}-{rng.randrange(1, 10000):04d}"


def ip(rng: random.Random) -> str:
    """Return an IPv4 or IPv6 address."""
    if rng.random() < 0.3:
        return "2001:db8:" + ":".join(f"{rng.randrange(1, 65536):x}" for _ in range(6))
    return f"{rng.randrange(1, 224)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def _phone(rng: random.Random) -> str:
    form = rng.choice(
        (
            "({a}) 555-{d}", "{a}-555-{d}", "+1 {a} 555 {d}", "020 7946 {d}", "+44 20 7946 {d}", "07700 90{c}",
            "+49 30 {b}{d}", "030 / {b}{d}", "+33 6 12 34 56 78", "01 42 68 {e} {e}", "+91 98{c} {f}", "+81 3-{d}-{d}",
            "+234 803 {a} {d}", "(02) 9{a} {d}",
        )
    )  # fmt: skip
    return form.format(
        a=rng.randrange(201, 990), b=rng.randrange(100, 999), c=_digits(rng, 4), d=_digits(rng, 4), e=_digits(rng, 2),
        f=_digits(rng, 6),
    )  # fmt: skip


def _address(rng: random.Random) -> str:
    number, street, city = rng.randrange(1, 400), rng.choice(_STREETS), rng.choice(_CITIES)
    return rng.choice(
        (
            f"{number} {street} {rng.choice(_KINDS)}, {city}",
            f"{number} {street} {rng.choice(_KINDS)}, Springfield, IL {_digits(rng, 5)}",
            f"Flat {rng.randrange(1, 30)}, {number} {street} {rng.choice(_KINDS)}, Leeds, LS{rng.randrange(1, 20)} 4AB",
            f"{number} {street} {rng.choice(_KINDS)}, Apt {rng.randrange(1, 99)}B, {city}",
            f"PO Box {number}, {city}",
            f"Hauptstraße {number}, 20095 Hamburg",
            f"{number} rue de la République, 69002 Lyon",
            f"Via Garibaldi {number}, 40121 Bologna",
        )
    )


def _date(rng: random.Random) -> str:
    day, month, year = rng.randrange(1, 29), rng.randrange(12), rng.randrange(1950, 2026)
    name = calendar.month_name[month + 1]
    numbers = f"{year}-{month + 1:02d}-{day:02d}", f"{day:02d}/{month + 1:02d}/{year}"
    return rng.choice((f"{day} {name} {year}", f"{name} {day}, {year}", *numbers))


def _digits(rng: random.Random, count: int) -> str:
    return "".join(str(rng.randrange(10)) for _ in range(count))


def _ascii(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _one_of(values: list[str]) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(values)


FIELDS: dict[str, tuple[str, Callable[[random.Random], str]]] = {
    "person": ("PERSON", lambda rng: f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"),
    "first": ("PERSON", _one_of(_FIRST)),
    "last": ("PERSON", _one_of(_LAST)),
    "title": ("TITLE", _one_of(["Mr", "Mrs", "Ms", "Dr.", "Mr.", "Prof."])),
    "email": ("EMAIL_ADDRESS", email),
    "card": ("CREDIT_CARD", card),
    "iban": ("IBAN_CODE", iban),
    "ssn": ("US_SSN", ssn),
    "ip": ("IP_ADDRESS", ip),
    "phone": ("PHONE_NUMBER", _phone),
    "address": ("ADDRESS", _address),
    "city": ("CITY", _one_of(_CITIES)),
    "org": ("ORGANIZATION", _one_of(_ORGS)),
    "date": ("DATE", _date),
    "age": ("AGE", lambda rng: f"{rng.randrange(18, 95)}{rng.choice((' years old', '-year-old'))}"),
    "url": ("URL", lambda rng: f"https://www.{_ascii(rng.choice(_LAST))}.example.com/u/{rng.randrange(9999)}"),
    "mrn": ("ID", lambda rng: _digits(rng, 8)),
    "employee": ("ID", lambda rng: f"E{_digits(rng, 6)}"),
    "passport": ("ID", lambda rng: rng.choice("XPCK") + _digits(rng, 8)),
    "licence": ("ID", lambda rng: f"D{_digits(rng, 7)}"),
    "policy": ("ID", lambda rng: f"HX-{_digits(rng, 7)}"),
}  # fmt: skip
