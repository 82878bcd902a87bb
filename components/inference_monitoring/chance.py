"""How likely chance alone is to bring something about: the tail of the binomial distribution."""


def at_least(successes: int, trials: int, probability: float) -> float:
    """Return the chance of so many successes or more."""
    from scipy.special import bdtrc

    return 1.0 if successes <= 0 else float(bdtrc(successes - 1, trials, probability))
