"""Simple rules under which labels differ from what the trusted model says: traces of a trigger, or of a new fraud."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kfp_custody.components.poisoning_screen.chance import at_least
from kfp_custody.components.poisoning_screen.findings import Check
from kfp_custody.components.poisoning_screen.limits import PASSED, Rules
from kfp_custody.components.poisoning_screen.rows import Floats, Integers

NAME = "rules"
_DEPTH = 3


def judge(names: Sequence[str], matrix: NDArray[np.float32], scores: Floats, labels: Integers, limits: Rules) -> Check:
    """Fit shallow trees to the disagreement on one half of the rows, and judge their leaves on the other half.

    Rows that the trusted model calls positive and those that it does not are looked at apart: under a random flip of
    labels no rule holds, under a trigger nearly all rows of one leaf disagree.

    Args:
        names: Of the columns.
        matrix: Shape (rows, columns).
        scores: The trusted model's, shape (rows,).
        labels: 0 or 1, shape (rows,).
        limits: From the file.
    """
    half = np.random.default_rng(0).permutation(labels.size) % 2 == 0
    found: list[tuple[str, Integers]] = []
    for side, wrong in ((scores >= 0.5, 0), (scores < 0.5, 1)):
        for learning in (half, ~half):
            learned, held = np.flatnonzero(side & learning), np.flatnonzero(side & ~learning)
            chance = np.abs(1 - wrong - scores[held])  # of this label, as the trusted model announces it
            hits = labels[held] == wrong
            for path, leaf in _leaves(names, matrix, learned, labels[learned] == wrong, held, limits.rows):
                expected, count, rows = float(chance[leaf].sum()), int(hits[leaf].sum()), leaf.size
                excess = (count - expected) / max(rows, 1)
                if excess >= limits.excess and at_least(count, rows, expected / rows) < limits.alpha:
                    found.append((f"label {wrong} where {path}", held[leaf[hits[leaf]]]))
    those = np.concatenate([rows for _, rows in found]) if found else labels[:0]
    those = those[np.sort(np.unique(those, return_index=True)[1])]
    reason = (
        "; ".join(f"{path} ({rows.size} rows)" for path, rows in found) or "no rule holds on rows it was not made of"
    )
    metrics = {"rules": float(len(found)), "rule_rows": float(those.size)}
    return Check(NAME, limits.result if found else PASSED, reason, metrics, those)


def _leaves(
    names: Sequence[str],
    matrix: NDArray[np.float32],
    learned: Integers,
    hits: NDArray[np.bool_],
    held: Integers,
    rows: int,
) -> list[tuple[str, Integers]]:
    """Return the path to each leaf in words, without a value of the data, and the places in `held` that it takes."""
    from sklearn.tree import DecisionTreeClassifier

    least = max(rows // 2, 1)  # a half of the rows has half of what a rule covers
    if learned.size < 2 * least or held.size == 0 or hits.all() or not hits.any():
        return []
    fitted = DecisionTreeClassifier(max_depth=_DEPTH, min_samples_leaf=least, random_state=0).fit(matrix[learned], hits)
    tree, place = fitted.tree_, fitted.apply(matrix[held])
    paths: dict[int, list[tuple[str, str]]] = {0: []}
    for node in range(tree.node_count):
        if tree.children_left[node] >= 0:
            name = names[tree.feature[node]]
            paths[tree.children_left[node]] = [*paths[node], (name, "low")]
            paths[tree.children_right[node]] = [*paths[node], (name, "high")]
    leaves = ((node, np.flatnonzero(place == node)) for node in range(tree.node_count) if tree.children_left[node] < 0)
    return [(_words(paths[node]), those) for node, those in leaves if those.size >= least]


def _words(path: Sequence[tuple[str, str]]) -> str:
    """Return a path in words: columns, and on which side of the tree's cuts they lie."""
    sides = {name: {side for other, side in path if other == name} for name, _ in path}
    return " and ".join(
        f"{name} is {side.pop()}" if len(side) == 1 else f"{name} is in a range" for name, side in sides.items()
    )
