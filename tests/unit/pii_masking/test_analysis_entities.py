"""The decoder of named entities and the encoder against spaCy itself, on texts that were not chosen to be easy."""

import copy
import random
from typing import Any

import numpy as np
import pytest

from kfp_custody.components.pii_masking.analysis.encoder import Encoder, UnknownArchitecture
from kfp_custody.components.pii_masking.analysis.entities import EntityDecoder
from kfp_custody.components.pii_masking.detection import MODEL

ODD = [
    "", " ", "\n\n", "\t \r\n", ".", "a", "😀 John Smith 😀 Mary", "x" * 600, "Dr. O'Brien-Núñez,\n\n  of Zürich",
    "1" * 40, "don't can't we'll it's Maria's", "東京 Tanaka さん", "a\u0301bc \u200b zero", "JOHN SMITH LIVES",
    "The United\nStates of America", "Bank of America. Bank of England. Bank", "New\n\nYork", "Ms. Lee. Mr. Poe.",
]  # fmt: skip
PROSE = (
    "Maria Lopez John Smith Boston London Monday March 2024 the a of bank Bank and paid to from $ 40 42% . , ; : said "
    "called Mr. Dr. Ltd Inc. European Union January twelve yesterday 10:30 #9 @ e-mail don't Paris's"
)


@pytest.fixture(scope="module")
def nlp() -> Any:
    import spacy

    return spacy.load(MODEL)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng, words = random.Random(3), [*PROSE.split(), "\n", "\n\n"]
    return ODD + [" ".join(rng.choices(words, k=rng.randrange(1, 60))) for _ in range(250)]


def spacy_entities(docs: list[Any]) -> list[list[tuple[int, int, str]]]:
    return [[(ent.start, ent.end, ent.label_) for ent in doc.ents] for doc in docs]


def test_entities_are_those_of_spacy_without_sentences(nlp: Any, texts: list[str]) -> None:
    ner = nlp.get_pipe("ner")
    expected = spacy_entities([ner(nlp.make_doc(text)) for text in texts])
    decode = EntityDecoder(ner)
    assert decode([nlp.make_doc(text) for text in texts]) == expected
    assert [decode([nlp.make_doc(text)])[0] for text in texts] == expected  # whatever the batch
    assert sum(map(len, expected)) > 500


def test_entities_are_those_of_spacy_within_sentences(nlp: Any, texts: list[str]) -> None:
    docs = [nlp(text) for text in texts]
    decode = EntityDecoder(nlp.get_pipe("ner"))
    assert decode.within_sentences(docs) == spacy_entities(docs)
    assert decode([nlp.make_doc(text) for text in texts]) != spacy_entities(docs)  # so the sentences decide something


def test_vectors_are_those_of_thinc(nlp: Any, texts: list[str]) -> None:
    model = nlp.get_pipe("tok2vec").model
    docs = [nlp.make_doc(text) for text in texts if text]
    encode = Encoder(model)
    for _ in range(2):  # the second time from remembered embeddings
        vectors, starts = encode(docs)
        for doc, start, expected in zip(docs, starts.tolist(), model.predict(docs), strict=True):
            np.testing.assert_allclose(vectors[start : start + len(doc)], expected, atol=2e-5)


def test_the_memory_of_embeddings_is_bounded(nlp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kfp_custody.components.pii_masking.analysis.encoder._MOST_TOKENS", 20)
    encode = Encoder(nlp.get_pipe("tok2vec").model)
    first = encode([nlp.make_doc("one two three four five")])[0]
    for number in range(50):
        encode([nlp.make_doc(f"word{number} other{number}")])
        assert len(encode._known) <= 20
    np.testing.assert_array_equal(encode([nlp.make_doc("one two three four five")])[0], first)


def test_another_architecture_is_told(nlp: Any) -> None:
    with pytest.raises(UnknownArchitecture):
        Encoder(nlp.get_pipe("tagger").model)
    with pytest.raises(UnknownArchitecture):
        EntityDecoder(nlp.get_pipe("parser"))  # eight features, and actions of another system
    trained = copy.deepcopy(nlp.get_pipe("ner").model.attrs)
    nlp.get_pipe("ner").model.attrs["unseen_classes"] = {1}
    try:
        with pytest.raises(UnknownArchitecture):
            EntityDecoder(nlp.get_pipe("ner"))
    finally:
        nlp.get_pipe("ner").model.attrs.update(trained)
