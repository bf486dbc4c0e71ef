"""Train the tiny CLIP model on pictures that a script draws, and draw the set of ambiguous names.

Method: `CLIPModel` with towers of 3 and 2 layers (widths 96 and 64), pictures of 48 pixels in patches of 8, and a
byte-level BPE as CLIP's; from random numbers, by cross-entropy over both directions of a batch. Pairs of one kind, and
those of one class less so, count as right for one another. Names are invented syllables, which say nothing of a class.

    python make.py xner_ray/models/tiny-clip jobs/data        # trains, measures, draws
    python make.py xner_ray/models/tiny-clip jobs/data --draw-only
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from draw import KINDS, SIDE, picture
from PIL import Image
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from xner_ray.data.spans import tags_to_spans
from xner_ray.data.words import join

SEED = 7
BATCH = 64
CLASSES = {
    "person": "PER",
    "flag": "LOC",
    "map": "LOC",
    "buildings": "LOC",
    "logo": "ORG",
    "thing": "other",
    "nothing": "other",
}
CAPTIONS = {
    "person": ["a photo of {}, a person", "a portrait of {}", "{}, a man", "{}, a woman", "a person named {}"],
    "flag": ["the flag of {}", "{}, a country", "a photo of {}, a place"],
    "map": ["a map of {}", "{}, a region", "a photo of {}, a place", "{} on a map"],
    "buildings": ["a building in {}", "{}, a city", "a photo of {}, a place", "houses of {}"],
    "logo": ["the logo of {}", "{}, a company", "a photo of {}, an organisation", "the brand {}"],
    "thing": ["a thing", "an animal", "some food", "a plant", "a picture of something else"],
    "nothing": ["an empty picture", "nothing", "a plain background"],
}
PROMPTS = {
    "PER": ["a photo of {}, a person", "a portrait of {}"],
    "LOC": ["a photo of {}, a place", "a map of {}"],
    "ORG": ["a photo of {}, an organisation", "the logo of {}"],
}
NAMES = [
    *("Jordan", "Washington", "Amazon", "Apple", "Paris", "Orange", "Shell", "Santander", "Ferrari", "Lincoln"),
    *("Chelsea", "Georgia", "Austin", "Virginia", "Florence", "Houston", "Phoenix", "Victoria", "Sydney", "Charlotte"),
]
SENTENCES = (
    "Everyone is talking about {} this week.",
    "{} looks great in this picture.",
    "Here is {}, as you have never seen it.",
    "We finally saw {} yesterday.",
)
_PICTURES = {"PER": ["person"], "LOC": ["flag", "map", "buildings"], "ORG": ["logo"]}
_SYLLABLES = [f"{one}{other}" for one in "bdfghklmnprstvwz" for other in "aeio"]


def invented(rng: random.Random) -> str:
    """Return a name of two to four syllables, sometimes with a last letter."""
    text = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 4)))
    return (text + rng.choice(["", "", "n", "s", "r", "l"])).capitalize()


def train_tokenizer(rng: random.Random) -> CLIPTokenizer:
    """Return CLIP's kind of tokenizer; the special tokens have the highest numbers, as CLIP's pooling reads them."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=None))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = Regex(r"'s|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [caption.format(invented(rng)) for kind in CAPTIONS.values() for caption in kind for _ in range(60)]
    trainer = trainers.BpeTrainer(
        vocab_size=760, initial_alphabet=sorted(alphabet), end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    trained = json.loads(bpe.to_str())["model"]
    vocabulary = dict(trained["vocab"])
    for letter in sorted(alphabet):
        vocabulary.setdefault(letter + "</w>", len(vocabulary))
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in trained["merges"]], model_max_length=32)


def new_model(vocabulary: int) -> CLIPModel:
    """Return a fresh model."""
    first, last = vocabulary - 2, vocabulary - 1
    text: dict[str, Any] = {
        **{"vocab_size": vocabulary, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "max_position_embeddings": 32, "projection_dim": 64},
        **{"bos_token_id": first, "eos_token_id": last, "pad_token_id": last},
    }
    vision: dict[str, Any] = {
        **{"hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 3, "num_attention_heads": 4},
        **{"image_size": SIDE, "patch_size": 8, "projection_dim": 64},
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


def pixels(pictures: list[Image.Image], processor: CLIPImageProcessorPil) -> torch.Tensor:
    """Return pictures of the model's size as it reads them: (n, 3, SIDE, SIDE)."""
    mean, std = (np.array(each, dtype=np.float32) for each in (processor.image_mean, processor.image_std))
    found = np.stack([np.asarray(each, dtype=np.float32) for each in pictures]) / 255
    return torch.from_numpy(((found - mean) / std).transpose(0, 3, 1, 2).copy())


def fit(model: CLIPModel, tokenizer: CLIPTokenizer, processor: CLIPImageProcessorPil, steps: int) -> None:
    """Train in place; prints the mean loss of every 50 steps."""
    rng, total = random.Random(SEED), 0.0
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps, pct_start=0.1)
    for step in range(1, steps + 1):
        kinds = [
            rng.choice(list(KINDS)) if rng.random() < 0.5 else rng.choice(["person", "logo"]) for _ in range(BATCH)
        ]
        captions = [rng.choice(CAPTIONS[kind]).format(invented(rng)) for kind in kinds]
        inputs = tokenizer(captions, padding=True, return_tensors="pt")
        logits = model(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            pixel_values=pixels([picture(kind, rng) for kind in kinds], processor),
        ).logits_per_image
        kind, group = np.array(kinds), np.array([CLASSES[each] for each in kinds])
        same = (kind[:, None] == kind).astype(np.float32) + (group[:, None] == group).astype(np.float32)
        wanted = torch.from_numpy(same)
        of_images, of_texts = wanted / wanted.sum(1, keepdim=True), (wanted / wanted.sum(0)).t()
        loss = -(of_images * logits.log_softmax(1)).sum(1).mean() / 2
        loss = loss - (of_texts * logits.t().log_softmax(1)).sum(1).mean() / 2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        total += loss.item()
        if step % 50 == 0:
            print(f"step {step} loss {total / 50:.4f} {time.process_time():.0f} CPU s", flush=True)
            total = 0.0


@torch.inference_mode()
def measure(model: CLIPModel, tokenizer: CLIPTokenizer, processor: CLIPImageProcessorPil) -> dict[str, str]:
    """Return the share of pictures of another seed that are of the nearest of three classes, with unseen names."""
    rng, right, all_of = random.Random(SEED + 1), dict.fromkeys(CLASSES, 0), 100
    for kind in [kind for kind, group in CLASSES.items() if group != "other"]:
        for _ in range(all_of):
            name = rng.choice(NAMES)
            texts = [prompt.format(name) for prompts in PROMPTS.values() for prompt in prompts]
            inputs = tokenizer(texts, padding=True, return_tensors="pt")
            read = pixels([picture(kind, rng)], processor)
            logits = model(**inputs, pixel_values=read).logits_per_image[0].view(len(PROMPTS), -1).mean(1)
            right[kind] += list(PROMPTS)[int(logits.argmax())] == CLASSES[kind]
    return {kind: f"{n}/{all_of}" for kind, n in right.items() if CLASSES[kind] != "other"}


def draw_ambiguous(folder: Path) -> None:
    """Draw the ambiguous set: a name stands in the same sentence with a picture of each class.

    `spans` have one label a name, drawn once, whatever the picture shows: so the text alone is right in a third of all
    rows. `kind` is what the picture shows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = random.Random(SEED + 2), []
    for number, name in enumerate(NAMES):
        text = SENTENCES[number % len(SENTENCES)].format(name)
        start = text.index(name)
        for kind in _PICTURES:
            file = f"{name.lower()}-{kind.lower()}.png"
            picture(rng.choice(_PICTURES[kind]), rng).save(folder / file, optimize=True)
            span = {"start": start, "end": start + len(name), "label": list(_PICTURES)[number % 3]}
            rows.append({"id": file[:-4], "text": text, "spans": [span], "photo": file, "kind": kind})
    for number in range(3):
        picture("nothing", rng).save(folder / f"plain-{number}.png", optimize=True)
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "ambiguous.jsonl").write_text("".join(lines), encoding="utf-8")


def draw_sentences(folder: Path, templates: Path, most: int = 60) -> None:
    """Draw a picture for sentences of the tiny NLLB: of one of their entities, by the label that the templates give.

    Each twelfth has none, and one picture is cut off. `gold` has the entities that the templates mark.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, lines = random.Random(SEED + 4), []
    for number, block in enumerate(templates.read_text("utf-8").strip().split("\n\n")):
        pairs = [line.split("\t") for line in block.splitlines() if not line.startswith("#")]
        tokens, (spans, _) = [token for token, _ in pairs], tags_to_spans([tag for _, tag in pairs])
        if not 1 <= len(spans) <= 2 or len(lines) == most:
            continue
        text, places = join(tokens, "eng_Latn")
        shown = rng.choice(spans).label
        row: dict[str, Any] = {"id": f"photo-{number:04d}", "text": text, "photo": None, "shows": shown}
        if len(lines) % 12 != 11:
            row["photo"] = f"{row['id']}.png"
            picture(rng.choice(_PICTURES[shown]), rng).save(folder / row["photo"], optimize=True)
        ends = [(places[span.start][0], places[span.end - 1][1], span.label) for span in spans]
        row["gold"] = ", ".join(f"{start}-{end} {label}" for start, end, label in ends)
        lines.append(json.dumps(row) + "\n")
    cut = folder / json.loads(lines[3])["photo"]
    cut.write_bytes(cut.read_bytes()[:200])
    (folder / "pictures.jsonl").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny CLIP model, and draw pictures.")
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--draw-only", action="store_true")
    options = parser.parse_args()
    draw_ambiguous(options.data / "ambiguous")
    draw_sentences(options.data / "pictures", options.data / "templates.en.conll")
    if options.draw_only:
        return
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer(random.Random(SEED + 3))
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    model = new_model(len(tokenizer))
    print(f"{len(tokenizer)} pieces, {model.num_parameters()} parameters", flush=True)
    fit(model, tokenizer, processor, options.steps)
    model.eval()
    model.bfloat16().save_pretrained(options.model)
    tokenizer.save_pretrained(options.model)
    processor.save_pretrained(options.model)
    stored = CLIPModel.from_pretrained(options.model, dtype=torch.float32).eval()
    print(json.dumps(measure(stored, tokenizer, processor)), f"{time.process_time():.0f} CPU s")


if __name__ == "__main__":
    main()
