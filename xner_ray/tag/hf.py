"""A tagger of given words, for either side: any Hugging Face token classifier."""

from __future__ import annotations

import torch

from xner_ray.errors import RecipeError
from xner_ray.models import network
from xner_ray.models.device import device_of, pick_dtype
from xner_ray.models.hub import complete, pinned, pretrained
from xner_ray.models.windows import Ints, Windows
from xner_ray.recipe.sections import Resolved, Tag
from xner_ray.tag.classes import Classes, read_classes
from xner_ray.tag.classifier import TokenClassifier


def check(section: Tag, key: str = "tag") -> dict[str, str | None]:
    """Return our label for each label of the model, sorted: `section.labels` in full. Reads no weights.

    RecipeError, with the section's `key`, if the model is not a token classifier, its tags are not O and B- I- (or
    E- S- L- U-, or plain labels), `labels` maps a label that it does not have or drops all, or its tokenizer is not a
    fast one; if the model was trained with a context and `context` is null, or if nothing can part words from it.
    """
    classes = _classes(section, key)
    tokenizer = network.fast_tokenizer(str(section.model), f"{key}.model")
    trained_with = context_of(section, key)
    if section.context is not None:
        network.require_separator(tokenizer, f"{key}.model", str(section.model))
    elif trained_with is not None:
        raise RecipeError(
            f"{key}.model {section.model!r} was trained with a context beside the sentence (column {trained_with!r}), "
            f"and reads sentences alone worse; name the column that has it here, {key}.context: {trained_with}"
        )
    return dict(sorted(classes.ours_of.items()))


def resolve(section: Tag, key: str) -> Resolved:
    """Pin the model, and complete its map of labels; errors as of `check`."""
    section, identity = pinned(section)
    return Resolved(section.model_copy(update={"labels": check(section, key)}), {"model": identity})


class HfTagger(TokenClassifier):
    """A token classifier, its tokenizer and a device."""

    def __init__(self, section: Tag, key: str = "tag") -> None:
        """Load the model; dtype auto is float32 on a CPU and float16 on a GPU. Sets torch's threads for the process.

        RecipeError as in `check`, and for weights that are not safetensors or lack the classifier.
        """
        from transformers import AutoModelForTokenClassification

        torch.set_num_threads(section.threads)
        torch.set_float32_matmul_precision("highest")  # no TF32
        device = torch.device(device_of(section))
        classes = _classes(section, key)
        name, key = str(section.model), f"{key}.model"
        tokenizer = network.fast_tokenizer(name, key)
        dtype = pick_dtype(section.dtype, device.type)
        self.network = complete(AutoModelForTokenClassification, name, key, dtype).eval().to(device)
        if section.context is not None:
            network.require_look_behind(self._logits, tokenizer, key, name)
        super().__init__(section, tokenizer, network.positions_of(self.network, tokenizer), device, classes)

    def logits(self, inputs: dict[str, torch.Tensor], windows: Windows, batch: Ints) -> torch.Tensor:
        del windows, batch
        return self._logits(inputs)

    def _logits(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        place = self.network.device
        found: torch.Tensor = self.network(**{name: value.to(place) for name, value in inputs.items()}).logits
        return found


def context_of(section: Tag, key: str) -> str | None:
    """Return the column of contexts that the model was trained with, as its configuration notes it; None without."""
    from transformers import AutoConfig

    found = getattr(pretrained(AutoConfig, str(section.model), f"{key}.model"), network.CONTEXT, None)
    return None if found is None else str(found)


def _classes(section: Tag, key: str) -> Classes:
    """Read the model's classes from its configuration."""
    from transformers import AutoConfig

    found = pretrained(AutoConfig, str(section.model), f"{key}.model").id2label
    try:
        return read_classes(section, key, [found[index] for index in range(len(found))])
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(
            f"{key}.model {section.model!r}: id2label in its config.json is {dict(list(found.items())[:9])}; allowed: "
            "O and B- I- (or E- S- L- U-, or plain) labels, numbered from 0; give a model fine-tuned for named entities"
        ) from error
