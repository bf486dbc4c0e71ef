"""A score of your own: do an entity and a candidate stand for the same region of the sentence's picture?

A detector (OWL-ViT, OWLv2) compares each patch of the picture with a text t. Over N patches

    A_t = softmax of TAU cos(patch, t)
    same_region = sum of min(A_entity, A_candidate) x (1 - entropy(A_entity) / log N)

so it is near 1 where both texts point at the same few patches, and near 0 where the entity points nowhere; without a
picture it is 0. docs/images.md has a recipe. What it cannot do:

- The model must read both languages. The text towers of OWL-ViT and OWLv2 know English; of a translated word they make
  noise, and of a copied name what the spelling says anyway (`spelling.py`). A model that is not listed under
  MULTILINGUAL is refused. We know of no detector that belongs there.
- Two entities of a sentence share one picture, and mostly one region of it: the candidates that links confuse are
  seldom told apart by it. In GMNER 56 of 100 entities are in no region at all.
- What it is worth on photographs was not measured. Give it a small weight, and run it with exchanged pictures too:
  `python jobs/shuffled_column.py IN.jsonl OUT.jsonl --column photo`, then `input.columns.image: shuffled`.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from xner_ray.errors import RecipeError
from xner_ray.recipe.images import Image
from xner_ray.vision.formula import unit_length
from xner_ray.vision.grounder import Grounder
from xner_ray.vision.loader import Loader
from xner_ray.vision.references import References

MODEL = "tiny-owl"
MULTILINGUAL = {"tiny-owl"}  # it knows no word but those of its English captions, and any name by its letters
FOLDER = str(Path(__file__).parent / "data" / "pictures")  # references in the column `image` begin here
PROMPTS = {"PER": "a photo of {}, a person", "LOC": "a photo of {}, a place", "ORG": "the logo of {}"}
OTHERS = "a photo of {}"
TAU = 20.0


def setup():
    """Load the model, once a worker."""
    if MODEL not in MULTILINGUAL:
        raise RecipeError(
            f"same_region.py: {MODEL!r} is not declared to read the target language; add it to MULTILINGUAL if it does"
        )
    _model()


@lru_cache(maxsize=1)
def _model():
    section = Image(engine="owl", model=MODEL, prompts={label: [prompt] for label, prompt in PROMPTS.items()})
    model = Grounder(section, "same_region.py")
    references = References(FOLDER, [FOLDER], [])
    return model, Loader(references, max_mb=20, max_pixels=50_000_000, side=model.side, column="")


@lru_cache(maxsize=64)
def _patches(reference):
    """Vectors of a picture's patches, each of length 1; None where it cannot be used."""
    model, loader = _model()
    (found,) = loader.load([reference])
    return None if found.image is None else model.patches_of([found.image])[0][0]


def same_region(row, entity, candidates):
    """0 to 1 for each candidate; 0 without a picture."""
    patches = None if row.get("image") is None else _patches(row["image"])
    if patches is None:
        return [0.0] * len(candidates)
    prompt = PROMPTS.get(entity["label"], OTHERS)
    texts = [entity["text"], *(each["text"] for each in candidates)]
    vectors = unit_length(_model()[0].of_texts([prompt.replace("{}", text) for text in texts]))
    own, *others = (_attention(patches @ vector) for vector in vectors)
    entropy = -(own * np.log(np.maximum(own, 1e-12))).sum()
    sharp = max(0.0, 1 - entropy / np.log(len(own)))
    return [float(np.minimum(own, other).sum() * sharp) for other in others]


def _attention(cosines):
    weights = np.exp(TAU * (cosines - cosines.max()))
    return weights / weights.sum()
