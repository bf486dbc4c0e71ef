"""The model card of an adapted encoder: README.md; no times, no machine paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from xner_ray.adapt.recipe import Adaptation
from xner_ray.report.card import cell, encoder_licence, hub_languages, shown

_TEMPLATE = """---
{{ card_data }}
---

# An encoder for word alignment, adapted with xner_ray

```yaml
align: {encoder: PATH OF THIS FOLDER, layer: {{ layer }}}
```

Layers {{ first }} to {{ last }} were trained on the pairs below, with the self-training objective of awesome-align
(Dou and Neubig 2021). Embeddings and the layers above are those of the original encoder.

## Training data

| pairs | read | kept | left out |
|---|---|---|---|
{%- for row in origins %}
{{ row }}
{%- endfor %}

## Training

- encoder: {{ encoder }}; rate {{ rate }}
- {{ fit.epochs }} epochs, {{ fit.batch_pairs }} pairs a step, seed {{ fit.seed }}
- in the last part {{ linked }} of the words were linked; loss {{ loss }}
- it was not compared with gold links; docs/adaptation.md has such comparisons

The recipe and all losses are in `adaptation.json`.

## Licences

The pairs keep their own licence. {{ licence }}
"""


def model_card(adaptation: Adaptation, report: Mapping[str, Any]) -> str:
    """Return README.md. report: what adaptation.json holds."""
    layers, last = report["layers"], report["history"][-1]
    data = ModelCardData(
        language=hub_languages(code for tally in report["data"] for code in tally["languages"]),
        library_name="transformers",
        tags=["word-alignment", "xner_ray"],
    )
    card = ModelCard.from_template(
        data,
        template_str=_TEMPLATE,
        layer=layers[0] if len(layers) == 1 else layers,
        first=adaptation.model.frozen + 1,
        last=layers[-1],
        origins=[_row(tally) for tally in report["data"]],
        encoder=shown(adaptation.model.encoder),
        fit=adaptation.fit,
        rate=f"{adaptation.fit.learning_rate:g}",
        linked=f"{last['words_linked']:.1%}",
        loss=f"{last['loss']:.4f}",
        licence=encoder_licence(adaptation.model.encoder),
    )
    return f"{card}\n"


def _row(tally: Mapping[str, Any]) -> str:
    left = ", ".join(f"{n} {reason}" for reason, n in tally["dropped"].items()) or "none"
    return f"| {' with '.join(tally['languages'])} | {tally['read']} | {tally['kept']} | {cell(left)} |"
