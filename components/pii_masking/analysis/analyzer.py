"""Presidio's `AnalyzerEngine.analyze` for many texts at once.

The recognizers, their regular expressions, checksums, scores and the enhancement by context words are Presidio's own
code. What is saved is work that cannot change a finding:

- A recognizer runs on the texts that hold what its expressions need (`requirements`).
- Named entities of all texts are decoded together (`entities`). Sentence ends matter only within an entity of several
  words, so only the texts that have one are parsed.
- Lemmas matter only where a score may be raised by a context word and the text has a word with such a lemma
  (`lemmas`), so only these texts are tagged and lemmatised.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kfp_custody.components.pii_masking.analysis.encoder import Encoder, UnknownArchitecture
from kfp_custody.components.pii_masking.analysis.entities import EntityDecoder
from kfp_custody.components.pii_masking.analysis.lemmas import PossibleLemmas
from kfp_custody.components.pii_masking.analysis.requirements import NOTHING, Requirement, count_digits, requirement

BATCH = 256


@dataclass
class Named:
    """A named entity as Presidio's recognizer of them reads it: characters `start_char` to `end_char` (exclusive)."""

    start_char: int
    end_char: int
    label_: str


@dataclass(frozen=True)
class Entities:
    """The part of Presidio's NlpArtifacts that recognizers read; lemmas are added where they matter."""

    entities: list[Named]
    scores: list[float]


class BatchAnalyzer:
    """Finds what an analyzer engine finds, faster."""

    def __init__(self, engine: Any, language: str, *, sentences: bool = True) -> None:
        """Prepare the analysis.

        Args:
            engine: a presidio_analyzer.AnalyzerEngine with a spaCy pipeline.
            language: of the texts.
            sentences: True gives exactly the engine's findings. False treats each text as one sentence, and does not
                parse: a name may then go beyond the end of a sentence, which is rare.
        """
        self.engine, self._language, self._sentences = engine, language, sentences
        self._nlp = engine.nlp_engine.get_nlp(language)
        self._needs = {recognizer.id: _needs(recognizer) for recognizer in engine.registry.recognizers}
        self._lemmas = {
            recognizer.id: PossibleLemmas(self._nlp, recognizer.context)
            for recognizer in engine.registry.recognizers
            if recognizer.context
        }
        try:
            self._decoder: EntityDecoder | None = EntityDecoder(self._nlp.get_pipe("ner"))
            self._shared = Encoder(self._nlp.get_pipe("tok2vec").model)
        except UnknownArchitecture:  # spaCy itself, then
            self._decoder = None

    def analyze(self, texts: Sequence[str], entities: Sequence[str], threshold: float) -> Iterator[list[Any]]:
        """Yield the findings in each text, presidio_analyzer.RecognizerResult as the engine returns them.

        Args:
            texts: each analysed by itself.
            entities: what to look for.
            threshold: least score of a finding.
        """
        recognizers = self.engine.registry.get_recognizers(self._language, list(entities))
        for start in range(0, len(texts), BATCH):
            # The zone frees what spaCy remembers about words, so that memory stays bounded.
            with self._nlp.memory_zone():
                yield from self._batch(list(texts[start : start + BATCH]), entities, threshold, recognizers)

    def _batch(
        self, texts: list[str], entities: Sequence[str], threshold: float, recognizers: Sequence[Any]
    ) -> Iterator[list[Any]]:
        from presidio_analyzer import EntityRecognizer

        docs = [self._nlp.make_doc(text) for text in texts]
        parsed = [False] * len(docs)
        named = self._named(docs, parsed)
        results = [
            self._recognize(text, entities, recognizers, facts) for text, facts in zip(texts, named, strict=True)
        ]
        raised = [at for at, found in enumerate(results) if self._may_be_raised(docs[at], found, recognizers)]
        if raised:
            self._lemmatize([docs[at] for at in raised], [parsed[at] for at in raised])
        for at in raised:
            artifacts = self._artifacts(docs[at])
            results[at] = self.engine._enhance_using_context(texts[at], results[at], artifacts, recognizers, None)
        for found in results:
            yield EntityRecognizer.remove_duplicates([one for one in found if one.score >= threshold])

    def _named(self, docs: list[Any], parsed: list[bool]) -> list[Entities]:
        """Return the named entities of documents; `parsed` tells on return which of them were."""
        if self._decoder is None:
            docs[:] = self._nlp.pipe([doc.text for doc in docs], batch_size=BATCH)
            parsed[:] = [True] * len(docs)
            return [self._mapped([Named(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]) for doc in docs]
        found = self._decoder(docs)
        long = [at for at, ents in enumerate(found) if any(ent.end - ent.start > 1 for ent in ents)]
        if self._sentences:
            self._parse([docs[at] for at in long])
            for at in long:
                parsed[at] = True
            cut = [at for at in long if any(_goes_beyond(docs[at], ent.start, ent.end) for ent in found[at])]
            for at, ents in zip(cut, self._decoder.within_sentences([docs[at] for at in cut]), strict=True):
                found[at] = ents
        return [
            self._mapped([Named(doc[e.start].idx, doc[e.end - 1].idx + len(doc[e.end - 1]), e.label) for e in ents])
            for doc, ents in zip(docs, found, strict=True)
        ]

    def _mapped(self, ents: list[Named]) -> Entities:
        """Return entities under Presidio's names, without those that the configuration ignores."""
        nlp_engine = self.engine.nlp_engine
        scores = [nlp_engine.ner_model_configuration.default_score] * len(ents)
        return Entities(*nlp_engine._get_updated_entities(ents, scores))

    def _recognize(self, text: str, entities: Sequence[str], recognizers: Sequence[Any], facts: Entities) -> list[Any]:
        digits = count_digits(text)
        return [
            result
            for recognizer in recognizers
            if any(need.holds(text, digits) for need in self._needs[recognizer.id])
            for result in recognizer.analyze(text=text, entities=entities, nlp_artifacts=facts) or ()
        ]

    def _may_be_raised(self, doc: Any, found: Sequence[Any], recognizers: Sequence[Any]) -> bool:
        """Tell whether context words can raise the score of a finding."""
        if not found:
            return False
        low = {one.recognition_metadata[one.RECOGNIZER_IDENTIFIER_KEY] for one in found if one.score < 1}
        concerned = [self._lemmas[name] for name in low if name in self._lemmas]
        words = [token.text for token in doc] if concerned else []
        return any(possible(words) for possible in concerned)

    def _parse(self, docs: Sequence[Any]) -> None:
        if not docs:
            return
        self._encode(docs)
        parser = self._nlp.get_pipe("parser")
        parser.set_annotations(docs, parser.predict(docs))

    def _lemmatize(self, docs: Sequence[Any], parsed: Sequence[bool]) -> None:
        if self._decoder is None:
            return  # the whole pipeline ran
        if self._sentences:
            self._parse([doc for doc, done in zip(docs, parsed, strict=True) if not done])
        else:
            self._encode(docs)
        tagger = self._nlp.get_pipe("tagger")
        tagger.set_annotations(docs, tagger.predict(docs))
        for name in ("attribute_ruler", "lemmatizer"):
            component = self._nlp.get_pipe(name)
            for doc in docs:
                component(doc)

    def _encode(self, docs: Sequence[Any]) -> None:
        """Give documents the vectors that tagger and parser share."""
        vectors, starts = self._shared(docs)
        for doc, start in zip(docs, starts.tolist(), strict=True):
            doc.tensor = vectors[start : start + len(doc)]

    def _artifacts(self, doc: Any) -> Any:
        return self.engine.nlp_engine._doc_to_nlp_artifact(doc, self._language)


def _goes_beyond(doc: Any, start: int, end: int) -> bool:
    return any(doc[at].is_sent_start for at in range(start + 1, end))


def _needs(recognizer: Any) -> list[Requirement]:
    """Return the requirements of a recognizer, of which a text must meet one; the empty one where nothing is known."""
    from presidio_analyzer import PatternRecognizer
    from presidio_analyzer.predefined_recognizers import IbanRecognizer, PhoneRecognizer

    if isinstance(recognizer, PhoneRecognizer):
        return [Requirement(digits=2)]  # no numbering plan has a shorter number: phonenumbers' _MIN_LENGTH_FOR_NSN
    known = PatternRecognizer.analyze, IbanRecognizer.analyze
    if not isinstance(recognizer, PatternRecognizer) or type(recognizer).analyze not in known:
        return [NOTHING]
    return [requirement(pattern.regex) for pattern in getattr(recognizer, "patterns", ())]
