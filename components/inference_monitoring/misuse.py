"""What clients ask about: queries so near to one another, or so far from everybody's, that no business asks them.

Attacks that evade or copy a model move a row a little, again and again: nearly every query of such a trace is closer to
an earlier one of the same client than rows of different clients ever are (S. Chen, N. Carlini and D. Wagner, "Stateful
detection of black-box adversarial attacks", 2020). A query that is repeated exactly, as retries are, counts once.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components._shared.distances import Floats
from kfp_custody.components.inference_monitoring.chance import at_least
from kfp_custody.components.inference_monitoring.geometry import Points, Scale, scale_of
from kfp_custody.components.inference_monitoring.limits import Limits
from kfp_custody.components.inference_monitoring.spool import Columns, Spool

See = Callable[[tuple[str, ...], Floats], None]
SAMPLE, SAMPLED_CLIENTS = 6000, 500
WHOLE_CLIENTS, WHOLE_ROWS = 60, 1000  # of which all queries are looked at to learn what is usual
LEAST_HISTORY, LEAST_SAMPLE = 50, 200
_BLOCK = 128  # queries whose distances are computed at once
_STRANGE = 3.0  # times nearer, or farther, than the median client: not one to learn from what is usual
_CLOSE_CLIENTS = 0.1  # share of the clients whose own queries may be nearer than what counts as near
_CLOSEST = 4.0  # times nearer than between clients: more than that no client's own business brings
_CAP = 25.0  # of a square: one wild column alone does not make a row strange


@dataclass(frozen=True)
class Usual:
    """What is usual: near is a square distance below `near`, far a mean square beyond `far`.

    `history` is to how many rows the distances were taken, and so how many of a client's own are looked at.
    """

    near: float
    far: float
    history: int


@dataclass
class Trace:
    """What a client asked about: distinct queries after the first, how many were near; rows, how many were far."""

    tested: int = 0
    near: int = 0
    rows: int = 0
    far: int = 0


@dataclass
class Examined:
    """Per client what was found; `judged` counts rows, `alone` those of clients in a form that nobody else uses."""

    near_duplicates: dict[int, Trace] = field(default_factory=dict)
    out_of_distribution: dict[int, Trace] = field(default_factory=dict)
    judged: int = 0
    alone: Counter[int] = field(default_factory=Counter)


def examine(spool: Spool, limits: Limits, quartiles: Mapping[str, Floats], see: See) -> Examined:
    """Look through all rows.

    Args:
        spool: The rows.
        limits: What is near, far, and too much of either.
        quartiles: Of the columns that a profile knows, by name; shape (3,).
        see: Is shown the columns and values of every block, shape (n, columns), once.
    """
    from threadpoolctl import threadpool_limits

    # A second thread waits busily for products of matrices that are as small as these.
    with threadpool_limits(1, user_api="blas"):
        return _examined(spool, limits, quartiles, see)


def _examined(spool: Spool, limits: Limits, quartiles: Mapping[str, Floats], see: See) -> Examined:
    found = Examined()
    for columns in spool.tables.values():
        sample, owners, whole = _sample(spool, columns, see)
        known = {n: quartiles[name] for n, name in enumerate(columns.names) if name in quartiles}
        scale = scale_of(sample, columns.categories, known)
        usual = usual_distances(scale.points(sample), owners, [scale.points(rows) for rows in whole], limits)
        if usual is None:
            found.alone.update(columns.rows)
            continue
        found.judged += sum(columns.rows.values())
        for client, trace in _traces(spool, columns, scale, usual):
            if is_near(trace, limits):
                found.near_duplicates[client] = trace
            if is_far(trace, limits):
                found.out_of_distribution[client] = trace
    return found


def is_near(trace: Trace, limits: Limits) -> bool:
    """Tell whether a client has more near queries than chance and business bring."""
    rule = limits.near_duplicates
    if trace.tested < rule.queries or trace.near < rule.share * trace.tested:
        return False
    return at_least(trace.near, trace.tested, rule.quantile) < rule.alpha


def is_far(trace: Trace, limits: Limits) -> bool:
    """Tell whether a client asks far out more often than chance and business bring."""
    rule = limits.out_of_distribution
    if trace.rows < rule.queries or trace.far < rule.share * trace.rows:
        return False
    return at_least(trace.far, trace.rows, rule.tail) < rule.alpha


def usual_distances(points: Points, owners: NDArray[np.int64], whole: Sequence[Points], limits: Limits) -> Usual | None:
    """Return what is usual; None when there are too few clients, or rows of them.

    Every row is compared with as many rows of others as it would be with its client's own, so that the distances mean
    the same. Clients that are strange themselves do not count: copies of one trace, and rows from nowhere. Where
    clients ask about the same cases again and again, their own queries are nearer: then that is usual, within bounds,
    so that attackers among the clients do not make what they do usual.

    Args:
        points: About as many of each client.
        owners: The clients, shape (n,).
        whole: All queries of some of the clients, in order.
        limits: How many rows a query is compared with, and what share of the distances is near or far.
    """
    clients, sizes = np.unique(owners, return_counts=True)
    history = min(limits.near_duplicates.history, len(points) - int(sizes.max(initial=0)))
    if len(clients) < 2 or history < LEAST_HISTORY:
        return None
    rng = np.random.default_rng(0)
    nearest, outside = [], []
    for client in clients:
        own, others = points[owners == client], points[rng.choice(np.flatnonzero(owners != client), history, False)]
        squares = own.distances(others)
        squares[own.keys[:, None] == others.keys] = np.inf  # the same row
        nearest.append(squares.min(axis=1))
        outside.append(_outside(own))
    near, far = _ordinary(nearest, above=True), _ordinary(outside, above=False)
    near = near[np.isfinite(near)]
    if near.size < LEAST_SAMPLE:
        return None
    between = float(np.quantile(near, limits.near_duplicates.quantile))
    nearer = [_own_distance(rows, history, limits) for rows in whole]
    within = float(np.quantile(nearer, _CLOSE_CLIENTS)) if nearer else between
    return Usual(
        min(between, max(within, between / _CLOSEST**2)),
        float(np.quantile(far, 1 - limits.out_of_distribution.tail)),
        history,
    )


def _own_distance(points: Points, history: int, limits: Limits) -> float:
    """Return the square distance below which few of a client's queries are near to its earlier ones."""
    squares = _nearest(_distinct(points), 0, history)
    return float(np.quantile(squares[1:], limits.near_duplicates.quantile)) if len(squares) > 1 else np.inf


def _ordinary(values: list[Floats], above: bool) -> Floats:
    """Return the values of the clients whose median is not far below (or above) the median client's."""
    medians = np.array([np.median(own) for own in values])
    middle = np.median(medians)
    bound = middle / _STRANGE**2 if above else middle * _STRANGE
    chosen = medians >= bound if above else medians <= bound
    return np.concatenate([own for own, fits in zip(values, chosen, strict=True) if fits])


def _outside(points: Points) -> Floats:
    """Return how far rows lie from the middle of all: the mean square over their numbers, shape (n,)."""
    if not points.numbers.shape[1]:
        return np.zeros(len(points))
    far: Floats = np.minimum(points.numbers**2, _CAP).mean(axis=1)
    return far


def _sample(spool: Spool, columns: Columns, see: See) -> tuple[Floats, NDArray[np.int64], list[Floats]]:
    """Return rows of many clients, about as many of each, and whose they are; and all the rows of some clients."""
    rng = np.random.default_rng(0)
    clients = np.array(sorted(columns.rows), dtype=np.int64)
    clients = rng.permutation(clients)[:SAMPLED_CLIENTS]
    chances = np.zeros(max(columns.rows, default=0) + 1)
    for client in clients.tolist():
        chances[client] = SAMPLE / len(clients) / columns.rows[client]
    whole: dict[int, list[Floats]] = {client: [] for client in clients[:WHOLE_CLIENTS].tolist()}
    values, owners = [np.zeros((0, len(columns.names)))], [np.zeros(0, dtype=np.int64)]
    for part in spool.parts(columns):
        for block in part:
            see(columns.names, block.values)
            chosen = rng.random(block.clients.size) < chances[block.clients]
            values.append(block.values[chosen])
            owners.append(block.clients[chosen])
            for client in whole.keys() & set(block.clients.tolist()):
                room = WHOLE_ROWS - sum(map(len, whole[client]))
                whole[client].append(block.values[np.flatnonzero(block.clients == client)[:room]])
    joined = [np.concatenate(rows) for rows in whole.values() if rows]
    return np.concatenate(values), np.concatenate(owners), joined


def _traces(spool: Spool, columns: Columns, scale: Scale, usual: Usual) -> Iterator[tuple[int, Trace]]:
    for part in spool.parts(columns):
        traces: dict[int, Trace] = {}
        histories: dict[int, Points] = {}
        for block in part:
            points = scale.points(block.values)
            ends = np.append(np.flatnonzero(np.diff(block.clients)) + 1, block.clients.size)
            start = 0
            for end in ends.tolist():
                client = int(block.clients[start])
                own, trace = points[start:end], traces.setdefault(client, Trace())
                trace.rows += len(own)
                trace.far += int((_outside(own) > usual.far).sum())
                histories[client] = follow(trace, histories.get(client), own, usual)
                start = end
        yield from traces.items()


def follow(trace: Trace, history: Points | None, points: Points, usual: Usual) -> Points:
    """Compare queries with those before them, count, and return the last ones for the next call.

    Args:
        trace: Where to count.
        history: What the last call returned for this client.
        points: The next queries, in order.
        usual: What is near.
    """
    before = len(history) if history else 0
    known = _distinct(points.after(history) if history else points)  # the history has no equal rows, so it stays whole
    trace.near += int((_nearest(known, before, usual.history) < usual.near).sum())
    trace.tested += len(known) - max(before, 1) if len(known) else 0
    return known[-usual.history :]


def _distinct(points: Points) -> Points:
    """Return points without those that are equal to an earlier one."""
    _, first = np.unique(points.keys, return_index=True)
    first.sort()
    return points[first]


def _nearest(points: Points, before: int, history: int) -> Floats:
    """Return the square distance of each point to the nearest of those before it, from the one at `before` on.

    Args:
        points: In order, shape (n,).
        before: How many need no answer.
        history: How many before each one are looked at; the very first has none, and infinity is its distance.
    """
    found = np.full(len(points) - before, np.inf)
    for start in range(before, len(points), _BLOCK):
        low, end = max(start - history, 0), min(start + _BLOCK, len(points))
        squares = points[start:end].distances(points[low:end])
        size, over = end - start, start - low - history
        squares[:, -size:][np.tri(size, dtype=bool).T] = np.inf  # itself, and what came after it
        if over > -size:
            squares[:, :size][np.tri(size, k=over - 1, dtype=bool)] = np.inf  # more than the history ago
        found[start - before : end - before] = squares.min(axis=1)
    return found
