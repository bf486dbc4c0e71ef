"""The section `image` of a recipe: what pictures say of the labels of entities. `input.images`: where they may lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from xner_ray.recipe.decides import Decides
from xner_ray.recipe.sections import ModelRuntime

if TYPE_CHECKING:
    from xner_ray.recipe.model import Recipe

TINY_CLIP = "tiny-clip"  # the names of the test models in this package
TINY_OWL = "tiny-owl"
DEPICTED = {"PER": 0.65, "ORG": 0.28, "LOC": 0.1}
"""The share of entities that the picture of their tweet shows, by the boxes of GMNER."""
OTHERS_DEPICTED = 0.3


class Image(ModelRuntime):
    """Evidence of pictures for the labels of entities (`docs/images.md`)."""

    # clip: any model of an image tower and a text tower that AutoModel loads: CLIP, SigLIP, SigLIP 2; owl: a detector
    # that is asked in words, OWL-ViT or OWLv2, which also says where entities are
    engine: Annotated[Literal["none", "clip", "owl"], Decides.ROWS] = "none"
    # hub id (name@revision), folder, tiny-clip or tiny-owl
    model: Annotated[str | None, Decides.MODEL] = None
    # label -> sentences about a picture of such an entity, whose mention stands in the place of {}
    prompts: Annotated[dict[str, list[str]], Decides.ROWS] = Field(default_factory=dict)
    # of the picture beside the text
    weight: Annotated[float, Decides.ROWS] = Field(default=0.5, ge=0, le=100)
    # of the log ratio over a deviation of the product of picture and label
    slope: Annotated[float, Decides.ROWS] = Field(default=1.0, ge=0, le=100)
    # label -> probability that an entity of it is in the picture; labels without one: 0.3
    depicted: Annotated[dict[str, Annotated[float, Field(ge=0, le=1)]], Decides.ROWS] = Field(
        default_factory=lambda: dict(DEPICTED)
    )
    # probability that a label without probabilities is another
    doubt: Annotated[float, Decides.ROWS] = Field(default=0.1, gt=0, lt=0.5)
    # pictures of the run whose mean says nothing
    background: Annotated[int, Decides.ROWS] = Field(default=512, ge=8, le=8192)
    # of a box that is kept, for engine owl
    min_score: Annotated[float, Decides.ROWS] = Field(default=0.1, ge=0, le=1)
    # auto: float32 on CPU, float16 on GPU
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Decides.ROWS] = "auto"
    # a folder or an address where vectors of pictures are kept for further runs
    cache: Annotated[str | None, Decides.FILES] = None
    # the file of the background; a run sets it for its workers
    background_file: Annotated[str | None, Decides.RUN] = None

    @model_validator(mode="after")
    def _fits(self) -> Image:
        if self.engine == "none":
            return self
        if self.model is None:
            raise ValueError(
                f"model: engine {self.engine} needs a model with an image tower and a text tower, a hub id "
                "(name@revision) or a folder"
            )
        if len(self.prompts) < 2:
            raise ValueError(
                f"prompts: engine {self.engine} needs sentences for two labels or more, as in "
                "{PER: ['a photo of {}, a person'], LOC: ['a photo of {}, a place']}"
            )
        for label, prompts in self.prompts.items():
            if not prompts:
                raise ValueError(f"prompts: {label} has none; give at least one sentence with {{}} for the mention")
            for prompt in prompts:
                if prompt.count("{}") != 1 or set("{}") & set(prompt.replace("{}", "")) or not prompt.isprintable():
                    raise ValueError(
                        f"prompts: {label} has {prompt!r}; each is one line with one {{}}, where the mention stands"
                    )
        if unknown := sorted(set(self.depicted) - set(self.prompts) - set(DEPICTED)):
            raise ValueError(f"depicted: {unknown[0]} has no prompts ({', '.join(self.prompts)})")
        return self

    def depicted_of(self, label: str) -> float:
        """Return the probability that an entity of a label is in the picture."""
        return self.depicted.get(label, OTHERS_DEPICTED)


def check_use(recipe: Recipe) -> None:
    """Raise ValueError for a recipe that looks at pictures where there are none, or none where it says how."""
    if recipe.target_tag.images:
        raise ValueError("target_tag.images: pictures are shown to the tagger of the source side; set tag.images")
    looks = {
        "tag.images: true": recipe.tag.images,
        f"image.engine: {recipe.image.engine}": recipe.image.engine != "none",
    }
    if recipe.input.images.ablation is not None and not any(looks.values()):
        raise ValueError(
            "input.images.ablation: nothing looks at the pictures; set image.engine: clip or owl, or tag.images"
        )
    for key in [key for key, looks_at in looks.items() if looks_at and not recipe.with_images]:
        raise ValueError(f"{key} needs pictures; name their column under input.columns.image")
    if recipe.image.engine != "none" and recipe.projector == "transfer":
        raise ValueError(
            "image.engine: pictures judge the entities of the source side, and projector transfer takes those of "
            "the target words; leave image out"
        )
