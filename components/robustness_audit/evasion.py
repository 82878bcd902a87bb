"""A decision-based attack on all rows at once: only whether the model detects a changed row is asked, as of a service.

HopSkipJump (J. Chen, M. I. Jordan, M. J. Wainwright, 2020): from a point on the model's boundary, random steps tell
where the boundary runs, a step away from it and back towards the row finds a nearer one. Three things are added. Every
point is moved to the nearest allowed one before it is asked about. Beside the paper's step the row's own way straight
ahead to the estimated boundary is tried, the shortest where the boundary is flat. And at the end what need not be
changed is put back, and changes of one feature alone are tried, which suits models that look at few.
"""

from collections.abc import Iterator

import numpy as np

from kfp_custody.components.robustness_audit.space import OWN, Bools, Floats, Ints, Points, Space

_NEAREST, _RANDOM, _LAST_RESORT = 8, 4, 256  # starting points a row
_FINE, _EXACT, _CUTS = 3, 12, 7  # rounds of cutting a line, and cuts in a round
_AT_ONCE = 1 << 22  # numbers, to bound memory
_HALVINGS = 5  # lengths that a step is tried in
_PROBES = 40  # random steps in an iteration; one a feature where there are more


def attack(space: Space, donors: "Donors", iterations: int, seed: int) -> tuple[Points, Floats]:
    """Find for each row the nearest allowed change that the model does not detect.

    Args:
        space: The rows, which the model detects all.
        donors: Rows that the model does not detect, to start from.
        iterations: Steps.
        seed: The same seed finds the same.

    Returns:
        The points, one a row; and their distances, inf (and the row unchanged) where no such change was found.
    """
    random = np.random.default_rng(seed)
    best, distances = _start(space, donors, random)
    found = np.flatnonzero(np.isfinite(distances))
    if found.size and space.numbers:
        nearest = at = best.take(found)
        far = distances[found]
        for number in range(1, iterations + 1):
            at = _step(space, at, number, random)
            now = space.distances(at)
            nearest, far = _choose(now < far, at, nearest), np.minimum(now, far)
        best = _put(best, found, _without_needless(space, nearest))
        distances[found] = space.distances(best.take(found))
    # Last, as no step leads away from a point that is as near as its one feature allows.
    for candidates in (*_single_changes(space, donors), _single_switches(space)):
        best, distances = _nearer(space, candidates, best, distances)
    found = np.flatnonzero(np.isfinite(distances))
    best = _put(best, found, _shortened(space, best.take(found), _EXACT))
    return best, np.where(np.isfinite(distances), space.distances(best), np.inf)


class Donors:
    """Rows that the model does not detect."""

    def __init__(self, values: Floats, codes: Ints) -> None:
        """Keep their numbers, shape (donors, numbers), and options, shape (donors, choices)."""
        self.values, self.codes = values, codes

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.values)

    def nearest(self, space: Space, count: int) -> Ints:
        """Return the nearest of them for each row, shape (rows, count); a number that one of both lacks counts 0."""
        scaled = self.values / space.deviations
        found = np.empty((space.size, count), dtype=np.int64)
        for row in range(space.size):
            apart = np.nan_to_num(scaled - space.own[row] / space.deviations)
            found[row] = np.argsort((apart**2).sum(axis=1), kind="stable")[:count]
        return found


def _start(space: Space, donors: Donors, random: np.random.Generator) -> tuple[Points, Floats]:
    """Return the nearest points on the lines to donors, and their distances."""
    best, distances = space.unchanged(), np.full(space.size, np.inf)
    for candidates in _donated(space, donors, random):
        best, distances = _nearer(space, candidates, best, distances)
    lost = np.flatnonzero(~np.isfinite(distances))
    if lost.size and len(donors):
        chosen = random.integers(len(donors), size=(lost.size, _LAST_RESORT))
        best, distances = _nearer(space, _as_donors(space, donors, lost, chosen, own=False), best, distances)
    return best, distances


def _single_changes(space: Space, donors: Donors) -> Iterator[Points]:
    """Yield each row with one number as low or as high as any donor has it, many features at once."""
    known = np.where(np.isfinite(donors.values), donors.values, np.nan)
    places = np.flatnonzero(~np.isnan(known).all(axis=0)) if len(donors) else np.empty(0, dtype=np.int64)
    at_once = max(_AT_ONCE // (2 * space.size * len(space.numbers)), 1) if space.numbers else 1
    for some in (places[start : start + at_once] for start in range(0, len(places), at_once)):
        every = np.repeat(np.arange(space.size), 2 * len(some))
        values = space.own[every]
        ends = np.nanmin(known[:, some], axis=0), np.nanmax(known[:, some], axis=0)
        changed = np.tile(np.concatenate((some, some)), space.size)
        values[np.arange(len(every)), changed] = np.tile(np.concatenate(ends), space.size)
        yield space.allowed(every, values, np.full((len(every), len(space.choices)), OWN, dtype=np.int64))


def _single_switches(space: Space) -> Points:
    rows, codes = [], []
    for place, choice in enumerate(space.choices):
        for code in range(len(choice.options)):
            switched = np.full((space.size, len(space.choices)), OWN, dtype=np.int64)
            switched[:, place] = code
            rows.append(np.arange(space.size))
            codes.append(switched)
    if not rows:
        return space.unchanged().take(np.empty(0, dtype=np.int64))
    every = np.concatenate(rows)
    return space.allowed(every, space.own[every], np.concatenate(codes))


def _donated(space: Space, donors: Donors, random: np.random.Generator) -> list[Points]:
    if not len(donors):
        return []
    near = donors.nearest(space, min(_NEAREST, len(donors)))
    chosen = np.concatenate([near, random.integers(len(donors), size=(space.size, _RANDOM))], axis=1)
    every = np.arange(space.size)
    kinds = (True, False) if space.choices else (True,)
    return [_as_donors(space, donors, every, chosen, own=own) for own in kinds]


def _as_donors(space: Space, donors: Donors, rows: Ints, chosen: Ints, *, own: bool) -> Points:
    """Return rows with the numbers of donors, and with their options unless `own`; `chosen` is of shape (rows, n)."""
    every, which = np.repeat(rows, chosen.shape[1]), chosen.ravel()
    codes = np.full((len(every), len(space.choices)), OWN, dtype=np.int64) if own else donors.codes[which]
    return space.allowed(every, donors.values[which], codes)


def _nearer(space: Space, candidates: Points, best: Points, distances: Floats) -> tuple[Points, Floats]:
    """Return the best of what was there and of the candidates that pass, each moved towards its row."""
    passing = candidates.take(space.passes(candidates))
    passing = _shortened(space, passing, _FINE)
    far = space.distances(passing)
    rows, chosen = _first_by_row(passing.rows, far)
    closer = far[chosen] < distances[rows]
    rows, chosen = rows[closer], chosen[closer]
    best.values[rows], best.codes[rows], distances[rows] = passing.values[chosen], passing.codes[chosen], far[chosen]
    return best, distances


def _shortened(space: Space, points: Points, rounds: int) -> Points:
    """Move points that pass towards their rows, up to the boundary; what is returned passes."""
    own, ends = space.own[points.rows], points.values
    low, high = np.zeros(len(points.rows)), np.ones(len(points.rows))
    if space.choices:
        unmoved = space.allowed(points.rows, own, points.codes)
        there = space.passes(unmoved)
        points, high = _choose(there, unmoved, points), np.where(there, 0.0, high)
    count = len(points.rows)
    every, again = np.arange(count), np.repeat(np.arange(count), _CUTS)
    for _ in range(rounds):
        cuts = low[:, None] + (high - low)[:, None] * np.arange(1, _CUTS + 1) / (_CUTS + 1)
        moved = own[again] + cuts.reshape(-1, 1) * (ends - own)[again]
        trials = space.allowed(points.rows[again], moved, points.codes[again])
        passing = np.column_stack((space.passes(trials).reshape(count, _CUTS), np.ones(count, dtype=bool)))
        first = passing.argmax(axis=1)  # the nearest cut that passes, or the end
        edges = np.column_stack((low, cuts, high))
        low, high = edges[every, first], edges[every, first + 1]
        trial = trials.take(every * _CUTS + np.minimum(first, _CUTS - 1))
        # Rounded to whole numbers, a point nearer on the line may be farther away.
        closer = (first < _CUTS) & (space.distances(trial) <= space.distances(points))
        points = _choose(closer, trial, points)
    return points


def _step(space: Space, at: Points, number: int, random: np.random.Generator) -> Points:
    """Return the next points: they pass, and are where the model's boundary is nearer or may soon be."""
    far = space.distances(at)
    normal = _normal(space, at, far, number, random)
    # As far out as `at`, straight ahead: beyond the foot of the row, which is no farther.
    feet = _moved(space, at, far[:, None] * normal - space.shifts(at))
    sizes = far[:, None] / np.sqrt(number) * 0.5 ** np.arange(_HALVINGS)
    again = np.repeat(np.arange(len(at.rows)), _HALVINGS)
    trials = _moved(space, at.take(again), sizes.reshape(-1, 1) * normal[again])
    passing = space.passes(trials).reshape(sizes.shape)
    longest = trials.take(np.arange(len(at.rows)) * _HALVINGS + passing.argmax(axis=1))
    ahead = _choose(np.asarray(passing.any(axis=1)), longest, at)
    feet = feet.take(space.passes(feet))
    both = _shortened(space, _joined(ahead, feet), _FINE)
    return both.take(_first_by_row(both.rows, space.distances(both))[1])


def _normal(space: Space, at: Points, far: Floats, number: int, random: np.random.Generator) -> Floats:
    """Estimate the direction from the boundary to where rows pass, in standard deviations, of length 1 or 0."""
    probes = max(_PROBES, len(space.numbers))
    at_once = max(_AT_ONCE // (probes * len(space.numbers)), 1)
    some = [np.arange(start, min(start + at_once, len(far))) for start in range(0, len(far), at_once)]
    return np.concatenate([_normal_of(space, at.take(rows), far[rows], number, probes, random) for rows in some])


def _normal_of(space: Space, at: Points, far: Floats, number: int, probes: int, random: np.random.Generator) -> Floats:
    count, features = at.values.shape
    reach = np.maximum(far * 0.3 / number, far * 0.01)[:, None]
    # A whole number answers to no less than one whole step.
    reach = np.where(space.integer, np.maximum(reach, 1.0 / space.deviations), reach)
    steps = random.standard_normal((count, probes, features)) * reach[:, None, :]
    repeated = at.take(np.repeat(np.arange(count), probes))
    around = _moved(space, repeated, steps.reshape(-1, features))
    taken = space.shifts(around).reshape(count, probes, features) - space.shifts(at)[:, None, :]
    answers = np.where(space.passes(around), 1.0, -1.0).reshape(count, probes)
    mean = answers.mean(axis=1, keepdims=True)
    answers = np.where(np.abs(mean) < 1.0, answers - mean, answers)
    spread = (taken**2).mean(axis=1)
    slope = np.einsum("rp,rpf->rf", answers, taken) / probes
    slope = np.divide(slope, spread, out=np.zeros_like(slope), where=spread > 0)
    length = np.linalg.norm(slope, axis=1, keepdims=True)
    normal: Floats = np.divide(slope, length, out=np.zeros_like(slope), where=length > 0)
    return normal


def _moved(space: Space, points: Points, shifts: Floats) -> Points:
    """Return points moved by so many standard deviations, as far as it is allowed."""
    return space.allowed(points.rows, points.values + shifts * space.deviations, points.codes)


def _without_needless(space: Space, points: Points) -> Points:
    """Put back what need not be changed, the smallest change first."""
    every = np.arange(len(points.rows))
    for feature in np.argsort(np.abs(space.shifts(points)), axis=1, kind="stable").T:
        values = points.values.copy()
        values[every, feature] = space.own[points.rows, feature]
        points = _tried(space, points, Points(points.rows, values, points.codes))
    for place in range(len(space.choices)):
        codes = points.codes.copy()
        codes[:, place] = OWN
        points = _tried(space, points, Points(points.rows, points.values, codes))
    return points


def _tried(space: Space, points: Points, trial: Points) -> Points:
    """Return the trial where it passes."""
    changed = (trial.values != points.values) & space.movable[points.rows]
    asked = np.flatnonzero(changed.any(axis=1) | (trial.codes != points.codes).any(axis=1))
    passing = asked[space.passes(trial.take(asked))]
    return _put(points, passing, trial.take(passing))


def _first_by_row(rows: Ints, far: Floats) -> tuple[Ints, Ints]:
    """Return the rows that there are, in ascending order, and the place of the nearest point of each."""
    order = np.lexsort((far, rows))
    found, first = np.unique(rows[order], return_index=True)
    return found, order[first]


def _joined(first: Points, second: Points) -> Points:
    return Points(
        np.concatenate((first.rows, second.rows)),
        np.concatenate((first.values, second.values)),
        np.concatenate((first.codes, second.codes)),
    )


def _put(points: Points, where: Ints, others: Points) -> Points:
    values, codes = points.values.copy(), points.codes.copy()
    values[where], codes[where] = others.values, others.codes
    return Points(points.rows, values, codes)


def _choose(which: Bools, first: Points, second: Points) -> Points:
    return Points(
        second.rows,
        np.where(which[:, None], first.values, second.values),
        np.where(which[:, None], first.codes, second.codes),
    )
