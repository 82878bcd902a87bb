"""Where the invented customers spend: kinds of merchants, their shops, and the channels a payment can take."""

from typing import NamedTuple

CHANNELS = ("pos", "online", "atm", "phone")
POS, ONLINE, ATM, PHONE = range(4)


class Category(NamedTuple):
    """A kind of merchant: share of all purchases, usual amount, share online and by phone, what shops are called."""

    name: str
    share: float
    amount: float
    online: float
    phone: float
    words: str


CATEGORIES = (
    Category("grocery", 0.20, 38, 0.08, 0.00, "Market"),
    Category("restaurant", 0.12, 24, 0.10, 0.02, "Kitchen"),
    Category("fuel", 0.07, 45, 0.00, 0.00, "Fuel"),
    Category("transport", 0.08, 12, 0.35, 0.00, "Transit"),
    Category("fashion", 0.07, 55, 0.50, 0.01, "Outfitters"),
    Category("electronics", 0.04, 140, 0.55, 0.02, "Electronics"),
    Category("health", 0.06, 28, 0.15, 0.05, "Pharmacy"),
    Category("entertainment", 0.06, 20, 0.60, 0.02, "Tickets"),
    Category("digital_goods", 0.06, 9, 0.98, 0.00, "Apps"),
    Category("travel", 0.03, 240, 0.70, 0.12, "Travel"),
    Category("home", 0.06, 70, 0.35, 0.03, "Furniture"),
    Category("utilities", 0.05, 85, 0.55, 0.20, "Energy"),
    Category("gift_cards", 0.02, 40, 0.65, 0.00, "Gifts"),
    Category("cash", 0.08, 90, 0.00, 0.00, "Cash Point"),
)
INDEX = {category.name: number for number, category in enumerate(CATEGORIES)}
"""Category name -> position in ``CATEGORIES``."""

BRANDS = (
    *("Blue Harbor", "Golden Oak", "Red Lantern", "Silver Birch", "Green Valley", "North Star", "Old Mill", "Corner"),
    *("High Street", "Copper Kettle", "White Cliff", "Seven Bridges", "Riverside", "Sunrise", "Black Swan"),
)
"""The first half of a shop's name: each one has a shop of every kind."""
