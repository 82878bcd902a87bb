"""spaCy's tok2vec network (MultiHashEmbed and MaxoutWindowEncoder) over many documents, as a few large products.

The arithmetic is that of thinc, step by step and in single precision. What differs: the embedding of a token depends
on a few attributes of its own, so it is computed once for all tokens that share them; and the products are left to
numpy's BLAS, which uses what the processor has. The documents of a batch lie behind one another in one matrix, with
rows of zeros between them as thinc puts them, so that none sees another.

Sources: Honnibal, "Embed, encode, attend, predict" (2016); spacy/ml/models/tok2vec.py and thinc/layers of the locked
versions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
_MOST_TOKENS = 200_000  # of 96 numbers each: 77 MB
_ODD = np.uint64(0x9E3779B97F4A7C15)


class UnknownArchitecture(Exception):
    """The model is built in another way than the code expects; spaCy itself has to run it."""


@dataclass(frozen=True)
class MaxoutLayer:
    """A maxout layer and the normalisation behind it.

    Attributes:
        weights: inputs x (pieces * outputs), all outputs of the first piece first.
        bias: pieces * outputs.
        pieces: Of which the greatest is the output.
        scale: Of the normalised outputs.
        shift: Of the normalised outputs.
    """

    weights: Floats
    bias: Floats
    pieces: int
    scale: Floats
    shift: Floats

    def __call__(self, inputs: Floats) -> Floats:
        """Return the outputs, one row an input row."""
        raw = inputs @ self.weights
        raw += self.bias
        width = len(self.scale)
        best: Floats = raw[:, :width]
        for piece in range(1, self.pieces):
            np.maximum(best, raw[:, piece * width : (piece + 1) * width], out=best)
        best = best - best.mean(axis=1, keepdims=True)
        variance = np.einsum("ij,ij->i", best, best)[:, None] / np.float32(width) + np.float32(1e-8)
        best *= variance ** np.float32(-0.5)
        best *= self.scale
        best += self.shift
        return best


def maxout_layer(layers: Sequence[Any]) -> MaxoutLayer:
    """Take the weights of `maxout >> layernorm`, with or without dropout behind it."""
    maxout, norm = layers[:2]
    if (maxout.name, norm.name) != ("maxout", "layernorm"):
        raise UnknownArchitecture(f"{maxout.name}, {norm.name}")
    weights = maxout.get_param("W")
    outputs, pieces, inputs = weights.shape
    # Pieces first: the greatest of them is then taken of whole matrices, and not within groups of three numbers.
    by_piece = np.ascontiguousarray(weights.transpose(1, 0, 2).reshape(pieces * outputs, inputs).T)
    bias = np.ascontiguousarray(maxout.get_param("b").T.reshape(pieces * outputs))
    return MaxoutLayer(by_piece, bias, pieces, norm.get_param("G"), norm.get_param("b"))


class Encoder:
    """The vectors of tokens in their context."""

    def __init__(self, model: Any) -> None:
        """Take the weights of a trained tok2vec model.

        Args:
            model: `extract_features >> ... >> with_array(residual(...) >> ...)`, as spacy.Tok2Vec.v2 builds it.

        Raises:
            UnknownArchitecture: it is built in another way.
        """
        try:
            embed, encode = model.layers
            extract, _, hashes, mix, _ = embed.layers
            self._columns = [*extract.attrs["columns"]]
            self._hashes = [one.layers[1] for one in hashes.layers[0].layers]
            self._mix = maxout_layer(mix.layers[0].layers[0].layers)
            blocks = [block.layers[0].layers for block in encode.layers[0].layers]
            self._blocks = [maxout_layer(block[1].layers[0].layers) for block in blocks]
            names = [block[0].name for block in blocks] + [one.name for one in self._hashes]
            order = [one.layers[1].attrs["column"] for one in hashes.layers[0].layers]
            padding = encode.attrs["pad"]
        except (AttributeError, ValueError, KeyError, IndexError) as error:
            raise UnknownArchitecture("tok2vec") from error
        count = len(self._blocks)
        if names != ["expand_window"] * count + ["hashembed"] * len(self._columns) or padding != count:
            raise UnknownArchitecture("tok2vec")
        if order != [None] * len(order) and order != list(range(len(order))):
            raise UnknownArchitecture("columns of the embedding")
        self.padding: int = padding
        self._known: dict[int, int] = {}
        self._embedded = np.zeros((0, len(self._mix.scale)), np.float32)

    def __call__(self, docs: Sequence[Any]) -> tuple[Floats, Rows]:
        """Encode the tokens of documents.

        Returns:
            One row a token, with rows of padding before, between and behind the documents; the first row of each.
        """
        lengths = np.array([len(doc) for doc in docs], np.int64)
        total, before = int(lengths.sum()), np.cumsum(lengths) - lengths
        starts = before + self.padding * np.arange(1, len(docs) + 1)
        rows = np.repeat(starts - before, lengths) + np.arange(total)
        width = self._embedded.shape[1]
        vectors = np.zeros((total + self.padding * (len(docs) + 1), width), np.float32)
        vectors[rows] = self._tokens(docs)
        window = np.zeros((len(vectors), 3 * width), np.float32)
        for layer in self._blocks:
            window[1:, :width] = vectors[:-1]
            window[:, width : 2 * width] = vectors
            window[:-1, 2 * width :] = vectors[1:]
            vectors += layer(window)
        return vectors, starts

    def _tokens(self, docs: Sequence[Any]) -> Floats:
        """Return the embedding of each token, computed once for all tokens that are alike."""
        attributes = np.concatenate([doc.to_array(self._columns) for doc in docs]).astype(np.uint64)
        keys = np.zeros(len(attributes), np.uint64)
        for column in attributes.T:
            keys = keys * _ODD + column  # modulo 2**64, as the attributes themselves are hashes
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        alike = distinct.tolist()
        if len(self._known) + len(alike) > _MOST_TOKENS:
            self._known, self._embedded = {}, self._embedded[:0]
        new = [at for at, key in enumerate(alike) if key not in self._known]
        if new:
            self._known.update({alike[at]: len(self._known) + number for number, at in enumerate(new)})
            self._embedded = np.concatenate([self._embedded, self._embed(attributes[first[new]])])
        return self._embedded[np.array([self._known[key] for key in alike], np.int64)[inverse]]

    def _embed(self, attributes: npt.NDArray[np.uint64]) -> Floats:
        columns = (np.ascontiguousarray(column) for column in attributes.T)
        parts = [layer.predict(column) for layer, column in zip(self._hashes, columns, strict=True)]
        return self._mix(np.concatenate(parts, axis=1))
