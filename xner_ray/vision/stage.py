"""The stage `image`: pictures judge the labels of entities, whichever tagger or file gave them.

It gives an entity another label, and never adds or drops one. A row without a usable picture keeps its labels. For each
judged entity it also says which label another picture of the unit would have given: the control. A detector's boxes are
those of entities with the labels that they have afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xner_ray.data.row import IMAGES, LEAST_PROBABILITY, accepted_rows, fill, with_flags
from xner_ray.errors import Flag, Reason, one_line
from xner_ray.recipe.model import Recipe
from xner_ray.stage import LastResult, ModelStage
from xner_ray.vision import formula
from xner_ray.vision.formula import Background, Floats
from xner_ray.vision.pixels import Fault

if TYPE_CHECKING:
    from xner_ray.vision.reader import PictureReader, Seen
    from xner_ray.vision.towers import Towers

_READS = ("image", "source_spans", "source_text", "source_offsets", "source_tags", "flags")
Row = Mapping[str, Any]


@dataclass
class _Judged:
    """Entities whose label a picture may change."""

    row: list[int] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)  # number of the text's label
    mention: list[str] = field(default_factory=list)
    picture: list[str] = field(default_factory=list)


class ImageStage(ModelStage):
    """Fills image_id, image_evidence, image_labels and image_boxes, and gives source_spans their labels anew."""

    name = "image"

    def __init__(self, recipe: Recipe, towers: Towers, reader: PictureReader, background: Background) -> None:
        super().__init__(towers)
        self.section, self.images = recipe.image, recipe.input.images
        self.towers, self.reader, self.background = towers, reader, background
        self.labels = sorted(self.section.prompts)  # whatever their order in the recipe
        self.depicted = np.array([self.section.depicted_of(label) for label in self.labels])
        self.by_tags = recipe.tag.engine in ("hf", "builtin")
        self.rename = recipe.input.labels.rename
        self.seen: LastResult[tuple[str, tuple[str, ...]], Seen] = LastResult()
        self.texts: LastResult[tuple[str, ...], Floats] = LastResult()

    def __call__(self, table: pa.Table) -> pa.Table:
        alive = accepted_rows(table)
        if not alive:
            return table
        # Whatever became of the row: so the pictures are the same in all languages
        references = tuple(sorted({one for one in table.column("image").to_pylist() if one is not None}))
        own = self.reader.language(table.column("lang")[0].as_py())
        seen = self.seen.of((own, references), lambda asked: self.reader.read(asked[1], asked[0]))
        rows = dict(zip(alive, table.select(_READS).take(pa.array(alive)).to_pylist(), strict=True))
        columns: dict[str, dict[int, Any]] = {name: {} for name in IMAGES.names[1:] if name != "source_tags"}
        columns |= {"source_spans": {}, "flags": {}}
        rejects = self._say_of_pictures(rows, seen, columns)
        judged = self._judged(rows, seen)
        self._judge(rows, judged, seen, columns)
        return fill(table, columns, rejects)

    def _say_of_pictures(
        self, rows: Mapping[int, Row], seen: Seen, columns: dict[str, dict[int, Any]]
    ) -> dict[int, tuple[Reason, str]]:
        """Give rows the ids of their pictures, or the flags of faults; return what is rejected for one."""
        rejects = {}
        for index, row in rows.items():
            found = seen.found.get(row["image"])
            if isinstance(found, str):
                columns["image_id"][index] = found
            elif isinstance(found, Fault) and self.images.missing == "reject":
                rejects[index] = Reason(str(found.flag)), f"{one_line(row['image'], 200)}: {found.detail}"
            elif isinstance(found, Fault):
                columns["flags"][index] = with_flags(row["flags"], [found.flag])
        return rejects

    def _judged(self, rows: Mapping[int, Row], seen: Seen) -> _Judged:
        judged, numbers = _Judged(), {label: number for number, label in enumerate(self.labels)}
        others = _turned(seen.ids, len(seen.ids) // 2 if self.images.ablation == "shuffled" else 0)
        for index, row in rows.items():
            identity = seen.found.get(row["image"])
            if not isinstance(identity, str):
                continue
            for source, span in enumerate(row["source_spans"] or ()):
                if span["label"] in numbers:
                    offsets = row["source_offsets"]
                    text = row["source_text"][offsets[span["start"]]["start"] : offsets[span["end"] - 1]["end"]]
                    judged.row.append(index)
                    judged.source.append(source)
                    judged.own.append(numbers[span["label"]])
                    judged.mention.append(text)
                    judged.picture.append(others[identity])
        return judged

    def _judge(self, rows: Mapping[int, Row], judged: _Judged, seen: Seen, columns: dict[str, dict[int, Any]]) -> None:
        """Fill the columns of evidence and labels."""
        mentions = tuple(sorted(set(judged.mention)))
        texts = self.texts.of(mentions, self._texts)
        numbers = {mention: number for number, mention in enumerate(mentions)}
        mention = np.array([numbers[one] for one in judged.mention], dtype=np.int64)
        own = np.array(judged.own, dtype=np.int64)
        spans = [(rows[row], rows[row]["source_spans"][at]) for row, at in zip(judged.row, judged.source, strict=True)]
        probabilities = self._probabilities(spans, own)
        next_one = _turned(seen.ids, 1)

        def ratios(pictures: Sequence[str]) -> Floats:
            vectors = [seen.vectors[one] for one in pictures]
            return self.towers.log_ratios(vectors, texts, mention, self.background, self.section.slope, self.depicted)

        true = ratios(judged.picture)
        exchanged = ratios([next_one[one] for one in judged.picture]) if len(seen.ids) > 1 else None
        weight = self.section.weight
        chosen = formula.decide(probabilities, true, own, weight).tolist()
        control: list[int | None] = [None] * len(own)
        if exchanged is not None:
            control = formula.decide(probabilities, exchanged, own, weight).tolist()
        for index, row in rows.items():
            if isinstance(seen.found.get(row["image"]), str):
                columns["image_evidence"][index], columns["image_labels"][index] = [], []
        for number, (index, source) in enumerate(zip(judged.row, judged.source, strict=True)):
            for at, label in enumerate(self.labels):
                columns["image_evidence"][index].append(
                    {"source": source, "label": label, "text": probabilities[number, at], "image": true[number, at]}
                )
            before, after, other = own[number], chosen[number], control[number]
            columns["image_labels"][index].append(
                {
                    "source": source,
                    "text": self.labels[before],
                    "image": self.labels[after],
                    "exchanged": None if other is None else self.labels[other],
                }
            )
            if after != before:
                cells = columns["source_spans"].setdefault(index, [dict(span) for span in rows[index]["source_spans"]])
                cells[source]["label"] = self.labels[after]
                flags = columns["flags"].get(index, rows[index]["flags"])
                columns["flags"][index] = with_flags(flags, [Flag.IMAGE_RELABELLED])

        if self.images.ablation != "shuffled":  # else they would be of another picture than the row's
            asked = texts[mention, chosen] if len(own) else np.zeros((0, 1))
            self._place(judged, self.towers.boxes([seen.vectors[one] for one in judged.picture], asked), columns)

    def _place(self, judged: _Judged, found: Floats | None, columns: dict[str, dict[int, Any]]) -> None:
        """Fill image_boxes with the boxes that are good enough. found: one of each judged entity, if the model says."""
        if found is None:
            return
        columns["image_boxes"] = {index: [] for index in columns["image_evidence"]}
        for index, source, box in zip(judged.row, judged.source, found.tolist(), strict=True):
            if box[-1] >= self.section.min_score:
                cell = dict(zip(("x0", "y0", "x1", "y1", "score"), box, strict=True))
                columns["image_boxes"][index].append({"source": source, **cell})

    def _texts(self, mentions: Sequence[str]) -> Floats:
        """Return the text vectors of labels with each mention in their prompts: (mentions, labels, dim)."""
        if not mentions:
            return np.zeros((0, len(self.labels), 1))
        prompts = [(label, prompt) for label, own in self.section.prompts.items() for prompt in own]
        asked = [prompt.replace("{}", mention) for mention in mentions for _, prompt in prompts]
        vectors = formula.unit_length(self.towers.of_texts(asked)).reshape(len(mentions), len(prompts), -1)
        of_label = [[at for at, (own, _) in enumerate(prompts) if own == label] for label in self.labels]
        return formula.unit_length(np.stack([vectors[:, own].mean(axis=1) for own in of_label], axis=1))

    def _probabilities(self, spans: Sequence[tuple[Row, Row]], own: NDArray[np.int64]) -> Floats:
        """Return what the text says of each entity's labels (entities, labels)."""
        if not self.by_tags:
            return formula.by_doubt(own, len(self.labels), self.section.doubt)
        logs = np.zeros((len(spans), len(self.labels)))
        for number, (row, span) in enumerate(spans):
            known: dict[tuple[int, str], float] = {}
            for cell in row["source_tags"] or ():
                prefix, _, label = cell["tag"].partition("-")
                key = cell["word"], f"{prefix}-{self.rename.get(label, label)}"
                known[key] = known.get(key, 0.0) + cell["probability"]
            for at, label in enumerate(self.labels):
                for word in range(span["start"], span["end"]):
                    tag = f"{'B' if word == span['start'] else 'I'}-{label}"
                    logs[number, at] += np.log(max(known.get((word, tag), 0.0), LEAST_PROBABILITY))
        return formula.by_tags(logs, own)

    def forget(self) -> None:
        super().forget()
        self.seen.forget()
        self.texts.forget()


def _turned(ids: Sequence[str], by: int) -> dict[str, str]:
    """Return for each picture the one that stands so many places behind it, the first behind the last."""
    return {one: ids[(at + by) % len(ids)] for at, one in enumerate(ids)}
