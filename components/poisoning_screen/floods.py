"""Rows that are nearly the same as many others: one case, written again and again to weigh more."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components.poisoning_screen.findings import Check, unknown
from kfp_custody.components.poisoning_screen.limits import PASSED, NearDuplicates
from kfp_custody.components.poisoning_screen.rows import Floats

NAME = "near_duplicates"
_NEIGHBOURS = 11  # with the row itself; enough to hold a cluster of copies together
_COLUMNS = 40  # columns at most by which rows are compared: copies are alike in any of them, and more only cost
_PROBES = 300  # rows whose nearest neighbour says what distances are usual
_COMMONEST = 0.1  # a value that more rows have (a zero, mostly) makes rows equal that have little in common


def continuous(numbers: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the columns of many values, in which rows are hardly ever equal by chance."""
    found = {}
    for name, values in numbers.items():
        known = values[~np.isnan(values)]
        counts = np.unique(known, return_counts=True)[1]
        if 2 * known.size > values.size and 20 * counts.size >= known.size and counts.max() <= _COMMONEST * known.size:
            found[name] = values
    return found


def judge(columns: Mapping[str, Floats], limits: NearDuplicates) -> Check:
    """Find clusters of rows that are far closer to each other than rows usually are to their nearest.

    Args:
        columns: Columns of many values, shape (rows,) each.
        limits: From the file.
    """
    if len(columns) < limits.columns:
        return unknown(NAME, f"{len(columns)} columns of many values; {limits.columns} are needed to compare rows")
    chosen = np.sort(np.random.default_rng(0).permutation(len(columns))[:_COLUMNS])
    compared = [values for place, values in enumerate(columns.values()) if place in chosen]
    points, member, weights = np.unique(
        np.column_stack([_scaled(values) for values in compared]),
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    if len(points) < _NEIGHBOURS + 1:
        return unknown(NAME, f"{len(points)} different rows")
    member = member.reshape(-1)
    cluster = _clusters(points, limits.distance)
    rows_of = np.bincount(cluster, weights)  # rows of each cluster
    size = rows_of[cluster[member]].astype(np.int64)  # of the cluster of each row
    those = np.flatnonzero(size >= limits.rows)
    those = those[np.argsort(-size[those], kind="stable")]
    count, largest = int((rows_of >= limits.rows).sum()), int(rows_of.max())
    metrics = {"flood_rows": float(those.size), "flood_clusters": float(count), "flood_largest": float(largest)}
    reason = (
        f"{count} clusters of at least {limits.rows} nearly equal rows, {those.size} rows; the largest has {largest}"
    )
    return Check(NAME, limits.result if count else PASSED, reason, metrics, those)


def _clusters(points: Floats, distance: float) -> NDArray[np.int64]:
    """Return the number of each point's cluster: points connected by steps shorter than a share of the usual."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    tree = KDTree(points)
    probes = points[np.random.default_rng(0).permutation(len(points))[:_PROBES]]
    nearest = tree.query(probes, k=2)[0][:, 1]
    # A flood of most rows would make its own distances the usual ones: those that are far below the rest do not count.
    usual = float(np.median(nearest[nearest >= distance * np.quantile(nearest, 0.9)]))
    near, neighbours = tree.query(points, k=_NEIGHBOURS, distance_upper_bound=distance * usual)
    start, place = np.nonzero(np.isfinite(near))
    edges = (np.ones(start.size, dtype=bool), (start, neighbours[start, place]))
    graph = coo_array(edges, shape=(len(points), len(points)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _scaled(values: Floats) -> Floats:
    """Return values in units of their spread, with long tails drawn in; what is missing lies in the middle.

    The spread is that of nine rows in ten: quartiles would be those of a flood of most rows.
    """
    low, middle, high = np.nanquantile(values, (0.05, 0.5, 0.95))
    unit = (high - low) / 3.29 or np.nanstd(values)
    scaled: Floats = np.arcsinh((np.where(np.isnan(values), middle, values) - middle) / unit)
    return scaled
