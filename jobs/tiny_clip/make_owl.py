"""Train the tiny OWL-ViT model, from the towers of the tiny CLIP, on collages that a script draws.

Method: OWL-ViT's own. `OwlViTForObjectDetection` gets both towers of tiny-clip, its positions stretched to a grid of
8 x 8 patches of 8 pixels, then learns which patches show what a query asks for, and where that ends: focal loss over
all patches and queries, distance and generalised IoU of boxes. A collage has one picture or two of `draw.py`, each
stretched to any shape, on a background; their edges are the boxes.

    python make_owl.py xner_ray/models/tiny-clip xner_ray/models/tiny-owl      # trains, measures
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from draw import background, picture
from make import _PICTURES, CAPTIONS, NAMES, PROMPTS, SEED, invented, pixels
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, CLIPModel, OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessorPil

SIDE, PATCH = 64, 8
GRID = SIDE // PATCH
BATCH = 32
LABELS = list(PROMPTS)
KINDS = {**_PICTURES, "other": ["thing"]}


@dataclass(frozen=True)
class Scene:
    """A collage. boxes: x0, y0, x1, y1 in 0..1; labels: their numbers in LABELS."""

    image: Image.Image
    boxes: list[tuple[float, float, float, float]]
    labels: list[int]


def scene(rng: random.Random, wide: int = SIDE, high: int = SIDE) -> Scene:
    """Return one picture anywhere, or two beside or above one another."""
    image = background(rng, max(wide, high)).crop((0, 0, wide, high))
    classes = rng.sample(list(KINDS), rng.choice([1, 1, 2]))
    beside, boxes, labels = rng.random() < 0.5, [], []
    for number, label in enumerate(classes):
        two = len(classes) == 2
        room_x, room_y = (wide // 2 if two and beside else wide), (high // 2 if two and not beside else high)
        w, h = (max(12, int(room * rng.uniform(0.5, 1))) for room in (room_x, room_y))
        x, y = rng.randint(0, room_x - w), rng.randint(0, room_y - h)
        x, y = x + (room_x * number if beside else 0), y + (0 if beside else room_y * number)
        part = picture(rng.choice(KINDS[label]), rng, max(w, h))
        image.paste(part.resize((w, h), Image.Resampling.BOX), (x, y))
        if label != "other":
            boxes.append((x / wide, y / high, (x + w) / wide, (y + h) / high))
            labels.append(LABELS.index(label))
    return Scene(image, boxes, labels)


def stretched(positions: Tensor) -> Tensor:
    """Return position vectors of a class token and a square grid, for the grid of this model."""
    side = int((len(positions) - 1) ** 0.5)
    grid = positions[1:].T.reshape(1, -1, side, side)
    grid = functional.interpolate(grid, (GRID, GRID), mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], grid[0].flatten(1).T])


def new_model(clip: CLIPModel) -> OwlViTForObjectDetection:
    """Return a detector with the towers of a CLIP model, and heads that know nothing."""
    text, vision = clip.config.text_config.to_dict(), clip.config.vision_config.to_dict()
    for own in (text, vision):
        own.pop("model_type")
    vision |= {"image_size": SIDE, "patch_size": PATCH}
    model = OwlViTForObjectDetection(
        OwlViTConfig(text_config=text, vision_config=vision, projection_dim=clip.config.projection_dim)
    )
    towers = {name.replace("pre_layrnorm", "pre_layernorm"): value for name, value in clip.state_dict().items()}
    places = "vision_model.embeddings.position_embedding.weight"
    towers[places] = stretched(towers[places])
    if lost := model.owlvit.load_state_dict(towers, strict=False).missing_keys:
        raise SystemExit(f"tiny-clip has no {lost[0]}")
    with torch.no_grad():  # transformers draws these heads so wide that the sigmoid is flat
        for name, value in [*model.box_head.named_parameters(), *model.class_head.named_parameters()]:
            value.zero_() if name.endswith("bias") else value.normal_(0, 0.05)
        model.class_head.dense0.weight.copy_(towers["visual_projection.weight"])
        model.class_head.logit_scale.bias.fill_(8.0)
        model.class_head.logit_shift.bias.fill_(-0.3)
    return model


def corners(boxes: Tensor) -> Tensor:
    """Return boxes as x0, y0, x1, y1 from their centres and sizes."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def overlap(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalised IoU of pairs of boxes."""
    inner = (torch.min(one[:, 2:], other[:, 2:]) - torch.max(one[:, :2], other[:, :2])).clamp(min=0).prod(1)
    areas = [(each[:, 2:] - each[:, :2]).clamp(min=0).prod(1) for each in (one, other)]
    union = (areas[0] + areas[1] - inner).clamp(min=1e-6)
    hull = (torch.max(one[:, 2:], other[:, 2:]) - torch.min(one[:, :2], other[:, :2])).prod(1).clamp(min=1e-6)
    return inner / union, inner / union - (hull - union) / hull


def asked(rng: random.Random, label: str) -> str:
    return rng.choice(CAPTIONS[rng.choice(_PICTURES[label])]).format(invented(rng))


def shown(scenes: list[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """Return which patches show which label (scene, patch, label); and scene and patch, and box, of each that does.

    A patch shows a picture if its centre is in the inner half of it, or is the nearest to its middle.
    """
    target = torch.zeros(len(scenes), GRID * GRID, len(LABELS))
    places, boxes = [], []
    centres = (np.arange(GRID) + 0.5) / GRID
    for number, one in enumerate(scenes):
        for (x0, y0, x1, y1), label in zip(one.boxes, one.labels, strict=True):
            ends = [((x0 + x1) / 2, (x1 - x0) / 4), ((y0 + y1) / 2, (y1 - y0) / 4)]
            columns, rows = (np.flatnonzero(abs(centres - m) <= max(half, 0.5 / GRID)) for m, half in ends)
            for row in rows:
                for column in columns:
                    target[number, row * GRID + column, label] = 1
                    places.append((number, int(row * GRID + column)))
                    boxes.append((x0, y0, x1, y1))
    return target, torch.tensor(places), torch.tensor(boxes)


def fit(model: OwlViTForObjectDetection, tokenizer, processor, steps: int) -> None:
    """Train in place; prints mean losses of every 100 steps."""
    rng, totals = random.Random(SEED), np.zeros(2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps, pct_start=0.1)
    for step in range(1, steps + 1):
        scenes = [scene(rng) for _ in range(BATCH)]
        queries = [asked(rng, label) for _ in scenes for label in LABELS]
        inputs = tokenizer(queries, padding=True, return_tensors="pt")
        found = model(**inputs, pixel_values=pixels([one.image for one in scenes], processor))
        target, places, wanted = shown(scenes)
        sure = found.logits.sigmoid()
        weight = torch.where(target > 0, (1 - sure) ** 2 * 0.75, sure**2 * 0.25).detach()
        each = functional.binary_cross_entropy_with_logits(found.logits, target, reduction="none")
        of_class = (weight * each).sum() / target.sum().clamp(min=1)
        of_box = torch.zeros(())
        if len(places):
            boxes = corners(found.pred_boxes[places[:, 0], places[:, 1]])
            of_box = 5 * (boxes - wanted).abs().mean() + 2 * (1 - overlap(boxes, wanted)[1]).mean()
        loss = 4 * of_class + of_box
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        totals += of_class.item(), of_box.item()
        if step % 100 == 0:
            said = " ".join(f"{value / 100:.4f}" for value in totals)
            print(f"step {step} class and box {said} {time.process_time():.0f} CPU s", flush=True)
            totals[:] = 0


@torch.inference_mode()
def measure(model: OwlViTForObjectDetection, tokenizer, processor, n: int = 400) -> dict[str, float]:
    """Return figures over scenes of another seed with unseen names: those of the best patch of each query."""
    rng = random.Random(SEED + 5)
    present, absent, overlaps = [], [], []
    for _ in range(n):
        one, name = scene(rng), rng.choice(NAMES)
        inputs = tokenizer([PROMPTS[label][0].format(name) for label in LABELS], padding=True, return_tensors="pt")
        found = model(**inputs, pixel_values=pixels([one.image], processor))
        best = found.logits[0].max(dim=0)
        for number in range(len(LABELS)):
            if number not in one.labels:
                absent.append(float(best.values[number]))
                continue
            present.append(float(best.values[number]))
            box = corners(found.pred_boxes[0, best.indices[number]])[None]
            overlaps.append(float(overlap(box, torch.tensor([one.boxes[one.labels.index(number)]]))[0]))
    higher = np.array(present)[:, None] > np.array(absent)
    return {
        "present": len(present),
        "absent": len(absent),
        "auc": round(float(higher.mean()), 3),
        "mean_iou": round(float(np.mean(overlaps)), 3),
        "iou_half": round(float(np.mean(np.array(overlaps) >= 0.5)), 3),
        "score_present": round(float(torch.tensor(present).sigmoid().median()), 3),
        "score_absent": round(float(torch.tensor(absent).sigmoid().median()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny OWL-ViT model from the tiny CLIP.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(options.clip)
    size = {"height": SIDE, "width": SIDE}
    processor = OwlViTImageProcessorPil(size=size, crop_size=size)
    model = new_model(CLIPModel.from_pretrained(options.clip, dtype=torch.float32))
    print(f"{model.num_parameters()} parameters", flush=True)
    fit(model, tokenizer, processor, options.steps)
    model.eval().bfloat16().save_pretrained(options.model)
    tokenizer.save_pretrained(options.model)
    processor.save_pretrained(options.model)
    stored = OwlViTForObjectDetection.from_pretrained(options.model, dtype=torch.float32).eval()
    print(json.dumps(measure(stored, tokenizer, processor)), f"{time.process_time():.0f} CPU s")


if __name__ == "__main__":
    main()
