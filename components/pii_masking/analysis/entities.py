"""spaCy's named entities of many documents at once: its greedy transition parser, one token of every document a step.

Each action of the BILUO system (begin, in, last, unit, out) consumes one token, so step t is token t of each document
that has as many. Scores are those of spaCy's model in single precision; which actions are valid is its table, for
documents on which nobody set entities before.

Sources: Ratinov and Roth, "Design challenges and misconceptions in named entity recognition" (2009), for BILUO;
spacy/pipeline/_parser_internals/ner.pyx and spacy/ml/parser_model.pyx of the locked version.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kfp_custody.components.pii_masking.analysis.encoder import Encoder, Rows, UnknownArchitecture

Flags = npt.NDArray[np.bool_]
_FEATURES = 3  # this token, the first and the last token of the open entity


class Entity(NamedTuple):
    """Tokens `start` to `end` (exclusive) are a `label`."""

    start: int
    end: int
    label: str


class EntityDecoder:
    """Finds the named entities of documents as a component `ner` of spaCy does."""

    def __init__(self, ner: Any) -> None:
        """Take the weights of a trained component.

        Raises:
            UnknownArchitecture: it is built in another way than the code expects.
        """
        model = ner.model
        try:
            tok2vec, lower, upper = model.layers
            inner, _, linear = tok2vec.layers
            names = tok2vec.layers[1].name, linear.name, lower.name, upper.name
            features, outputs, pieces = (lower.get_dim(name) for name in ("nF", "nO", "nP"))
            # Not `ner.move_names`, which leaves out the action that only blocks preset entities.
            moves = [ner.moves.get_class_name(number) for number in range(ner.moves.n_moves)]
            by_feature = lower.get_param("W")  # features x outputs x pieces x inputs
            padding = lower.get_param("pad")[0]
        except (AttributeError, ValueError, KeyError, IndexError) as error:
            raise UnknownArchitecture("ner") from error
        if names != ("list2array", "linear", "precomputable_affine", "linear") or features != _FEATURES:
            raise UnknownArchitecture("ner")
        if model.attrs["unseen_classes"] or ner.cfg.get("beam_width", 1) != 1 or ner.incorrect_spans_key:
            raise UnknownArchitecture("ner")
        self._encoder = Encoder(inner)
        self._linear = np.ascontiguousarray(linear.get_param("W").T), linear.get_param("b")
        # Pieces before outputs, so that the greatest piece is taken of halves of a row.
        rows = by_feature.transpose(0, 2, 1, 3).reshape(features * pieces * outputs, -1)
        self._lower = np.ascontiguousarray(rows.T)
        self._absent = np.ascontiguousarray(padding.transpose(0, 2, 1).reshape(features, pieces * outputs))
        self._bias = np.ascontiguousarray(lower.get_param("b").T.reshape(pieces * outputs))
        self._pieces, self._width = pieces, outputs
        self._upper = np.ascontiguousarray(upper.get_param("W").T), upper.get_param("b")
        self._moves = [(kind, label) for kind, _, label in (move.partition("-") for move in moves)]
        self._labels = sorted({label for _, label in self._moves if label})
        self._invalid = self._table()

    def __call__(self, docs: Sequence[Any]) -> list[list[Entity]]:
        """Return the entities of each document, as if it were one sentence."""
        return self._decode(docs, None)

    def within_sentences(self, docs: Sequence[Any]) -> list[list[Entity]]:
        """Return the entities of each document, none of which goes beyond the end of a sentence."""
        from spacy.attrs import SENT_START

        return self._decode(docs, [doc.to_array(SENT_START).astype(np.int64) == 1 for doc in docs])

    def _decode(self, docs: Sequence[Any], sentences: Sequence[Flags] | None) -> list[list[Entity]]:
        lengths = np.array([len(doc) for doc in docs], np.int64)
        order = np.argsort(-lengths, kind="stable")
        ordered = [docs[at] for at in order]
        lengths = lengths[order]
        if not len(docs) or not lengths[0]:
            return [[] for _ in docs]
        shape = len(docs), int(lengths[0])
        spaces, breaks = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        _mark_spaces(ordered, spaces)
        for place, at in enumerate(order if sentences is not None else ()):
            breaks[place, : max(lengths[place] - 1, 0)] = sentences[at][1:]  # type: ignore[index]
        actions = self._actions(ordered, lengths, spaces, breaks)
        found: list[list[Entity]] = [[] for _ in docs]
        for place, at in enumerate(order):
            found[at] = self._entities(actions[place, : lengths[place]])
        return found

    def _actions(self, docs: Sequence[Any], lengths: Rows, spaces: Flags, breaks: Flags) -> Rows:
        """Return the number of the action for each token; documents are in falling order of their lengths."""
        vectors, starts = self._encoder(docs)
        weights, bias = self._linear
        parts = (vectors @ weights + bias) @ self._lower
        parts = parts.reshape(len(parts), _FEATURES, -1)
        first, last = (np.concatenate([self._absent[None, part], parts[:, part]]) for part in (1, 2))
        kinds = np.array(["BILUO".find(kind) if kind else -1 for kind, _ in self._moves])
        labels = np.array([self._labels.index(label) + 1 if label else 0 for _, label in self._moves])
        actions = np.zeros(spaces.shape, np.int64)
        opened = np.zeros(len(docs), np.int64)  # number of the label of the open entity, 0 for none
        begun = np.zeros(len(docs), np.int64)  # row of its first token, plus one
        for step in range(spaces.shape[1]):
            count = int(np.searchsorted(-lengths, -step, side="left"))
            rows, is_open = starts[:count] + step, opened[:count] > 0
            raw = parts[rows, 0]
            raw += first[np.where(is_open, begun[:count], 0)]
            raw += last[np.where(is_open, rows, 0)]  # the row before this one, plus one
            raw += self._bias
            hidden = raw[:, : self._width]
            for piece in range(1, self._pieces):
                hidden = np.maximum(hidden, raw[:, piece * self._width : (piece + 1) * self._width])
            scores = hidden @ self._upper[0]
            scores += self._upper[1]
            ends = lengths[:count] == step + 1
            case = ((opened[:count] * 2 + ends) * 2 + breaks[:count, step]) * 2 + spaces[:count, step]
            scores[self._invalid[case]] = -np.inf
            chosen = scores.argmax(axis=1)
            actions[:count, step] = chosen
            kind = kinds[chosen]
            begun[:count] = np.where(kind == 0, rows + 1, begun[:count])
            opened[:count] = np.where(kind <= 1, labels[chosen], 0)
        return actions

    def _entities(self, actions: Rows) -> list[Entity]:
        found, begun = [], 0
        for at, action in enumerate(actions.tolist()):
            kind, label = self._moves[action]
            if kind in ("B", "U"):
                begun = at
            if kind in ("L", "U"):
                found.append(Entity(begun, at + 1, label))
        return found

    def _table(self) -> Flags:
        """Return which actions are invalid, by open label, last token, sentence break behind it, white space."""
        table = np.ones(((len(self._labels) + 1) * 8, len(self._moves)), np.bool_)
        for case in range(len(table)):
            opened, ends, breaks, space = case // 8, case // 4 % 2, case // 2 % 2, case % 2
            for number, (kind, label) in enumerate(self._moves):
                own = bool(opened) and label == self._labels[opened - 1]
                table[case, number] = not {
                    "B": bool(label) and not (opened or ends or breaks or space),
                    "I": own and not (ends or breaks),
                    "L": own,
                    "U": bool(label) and not (opened or space),
                    "O": not opened,
                }.get(kind, False)
        return table


def _mark_spaces(docs: Sequence[Any], spaces: Flags) -> None:
    from spacy.attrs import IS_SPACE

    for place, doc in enumerate(docs):
        spaces[place, : len(doc)] = doc.to_array(IS_SPACE)
