"""Which lemmas a word can have at all, from spaCy's rule tables, without knowing what part of speech it is.

A lemma matters to Presidio only where it holds a context word of a recognizer. Most texts hold no word whose lemma
could, and need no tagger and lemmatizer.
"""

from collections.abc import Iterable
from typing import Any

_MOST_WORDS = 200_000


class PossibleLemmas:
    """Answers whether a word can have a lemma that holds one of some context words, and remembers the answers."""

    def __init__(self, nlp: Any, context: Iterable[str]) -> None:
        """Read the tables of a pipeline.

        Args:
            nlp: with a rule lemmatizer, and an attribute ruler that may set lemmas as well.
            context: words that Presidio looks for within lemmas.
        """
        self._context = tuple(word.lower() for word in context)
        lemmatizer = nlp.get_pipe("lemmatizer")
        self._rules = [rule for rules in _table(lemmatizer, "lemma_rules").values() for rule in rules]
        self._exceptions = list(_table(lemmatizer, "lemma_exc").values())
        given = (pattern["attrs"].get("LEMMA", "") for pattern in nlp.get_pipe("attribute_ruler").patterns)
        self._always = lemmatizer.mode != "rule" or any(map(self._holds, given))
        self._known: dict[str, bool] = {}

    def __call__(self, words: Iterable[str]) -> bool:
        """Tell whether one of the words of a text can have such a lemma."""
        return self._always or any(map(self._can, words))

    def _can(self, word: str) -> bool:
        answer = self._known.get(word)
        if answer is None:
            if len(self._known) >= _MOST_WORDS:
                self._known.clear()
            answer = self._known[word] = any(map(self._holds, self._lemmas(word.lower())))
        return answer

    def _lemmas(self, word: str) -> Iterable[str]:
        yield word
        for old, new in self._rules:
            if word.endswith(old):
                yield word[: len(word) - len(old)] + new
        for exceptions in self._exceptions:
            yield from exceptions.get(word, ())

    def _holds(self, lemma: str) -> bool:
        return any(word in lemma.lower() for word in self._context)


def _table(lemmatizer: Any, name: str) -> dict[str, Any]:
    return dict(lemmatizer.lookups.get_table(name, {}))
