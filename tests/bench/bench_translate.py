"""Translation engines on a model of NLLB's shape with random weights: the same sentences and output lengths for all.

    python tests/bench/bench_translate.py [--shape tiny|600m|3.3b] [--device cpu|cuda] [--sentences 512]

Source lengths are those of NTREX-128 in English (a subword is taken for four characters), from $XNER_SHARED (default
../shared). A random model never ends a sentence, so outputs have the length of the limit, which is set to what NTREX's
other languages need: 1.25 of the source's length, rounded up to the next power of two. Speed counts those tokens.

Baseline: `generate` in input order, 32 sentences a call. Then our engines: transformers, with its pass that scores, and
CTranslate2. Each runs once on a few sentences, and once for the clock. Padding: share of source places that are empty.
In the model: share of the time spent in the model's own calls; the rest is tokenising, batching and text.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    M2M100Config,
    M2M100ForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from xner_ray.recipe.sections import Translate
from xner_ray.translate.ct2 import Ct2Translator
from xner_ray.translate.nllb import NllbTranslator

SHARED = Path(os.environ.get("XNER_SHARED", Path(__file__).parents[3] / "shared")) / "data"
# d_model, layers of each half, inner size, heads, vocabulary: the published configurations; tiny is for a look at it
SHAPES = {
    "tiny": (64, 2, 256, 4, 4000),
    "600m": (1024, 12, 4096, 16, 256206),
    "3.3b": (2048, 24, 8192, 16, 256206),
}
SOURCE, TARGET = "eng_Latn", "swh_Latn"
PLAIN_BATCH = 32


def wanted(width: int) -> int:
    """Subwords of the translation of a source of `width` subwords."""
    return min(1 << (round(1.25 * width) - 1).bit_length(), 512)


def make(shape: str, folder: Path) -> str:
    width, layers, inner, heads, size = SHAPES[shape]
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{n}" for n in range(size - 6))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    codes = [SOURCE, TARGET]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=codes, **names).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=size, d_model=width, max_position_embeddings=1024, scale_embedding=True, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
        **{f"{half}_{key}": value for half in ("encoder", "decoder")
           for key, value in {"layers": layers, "ffn_dim": inner, "attention_heads": heads}.items()},
    )  # fmt: skip
    model = M2M100ForConditionalGeneration(config)
    model.get_input_embeddings().weight.data[2] = 0.0  # the end never has the highest score
    model.to(torch.bfloat16 if shape != "tiny" else torch.float32).save_pretrained(folder)
    return str(folder)


class OurTransformers(NllbTranslator):
    def _limit(self, width: int) -> int:
        return wanted(width)


class OurCt2(Ct2Translator):
    def _limit(self, width: int) -> int:
        return wanted(width)


class Clock:
    """Seconds spent inside some calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            result = call(*arguments, **options)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds += time.perf_counter() - started
            return result

        return timed


def plain(model: str, device: str, clock: Clock) -> Callable[[Sequence[str]], None]:
    """What people write: batches in input order, as long as the longest needs."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    network: Any = AutoModelForSeq2SeqLM.from_pretrained(model, dtype=dtype).to(device).eval()
    network.generate = clock.around(network.generate)

    @torch.inference_mode()
    def run(texts: Sequence[str]) -> None:
        for start in range(0, len(texts), PLAIN_BATCH):
            batch = tokenizer(list(texts[start : start + PLAIN_BATCH]), return_tensors="pt", padding=True).to(device)
            network.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=wanted(batch["input_ids"].shape[1]),
                forced_bos_token_id=tokenizer.convert_tokens_to_ids(TARGET),
                do_sample=False,
                num_beams=1,
            )

    return run


def padding(widths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    places = sum(len(batch) * max(widths[i] for i in batch) for batch in batches)
    return 1 - sum(widths) / places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="tiny", choices=SHAPES)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--sentences", type=int, default=512)
    parser.add_argument("--budget", type=int, default=0, help="micro_batch_tokens; 0: 2048 on a CPU, 16384 on a GPU")
    options = parser.parse_args()
    path = SHARED / "ntrex-128/eng.txt"
    if not path.exists():
        raise SystemExit(f"needs NTREX-128 at {path} (set XNER_SHARED)")
    lines = path.read_text(encoding="utf-8").splitlines()[: options.sentences]
    widths = [max(1, len(line) // 4) for line in lines]
    texts = [" ".join(f"w{(n * 7919 + place) % 3000}" for place in range(width)) for n, width in enumerate(widths)]
    cuda = options.device == "cuda"
    budget = options.budget or (16384 if cuda else 2048)
    tokens = sum(map(wanted, widths))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XNER_RAY_CACHE"] = folder  # the converted model goes with the folder
        model = make(options.shape, Path(folder) / "model")
        section = Translate(model=model, gpus=int(cuda), micro_batch_tokens=budget, dtype="auto", threads=2)
        torch.set_num_threads(2)
        ours, converted = OurTransformers(section), OurCt2(section)
        batches = list(ours._micro_batches(list(range(len(widths))), [[0] * width for width in widths]))
        order = [list(range(n, min(n + PLAIN_BATCH, len(widths)))) for n in range(0, len(widths), PLAIN_BATCH)]
        clock = Clock()
        ours.model.generate = clock.around(ours.model.generate)
        ours._scores = clock.around(ours._scores)  # type: ignore[method-assign]
        converted.model = SimpleNamespace(translate_batch=clock.around(converted.model.translate_batch))
        ways: dict[str, tuple[Callable[[Sequence[str]], Any], float]] = {
            "generate, input order": (plain(model, options.device, clock), padding(widths, order)),
            "xner_ray, transformers": (lambda t: ours.translate(t, SOURCE, TARGET), padding(widths, batches)),
            "xner_ray, ctranslate2": (lambda t: converted.translate(t, SOURCE, TARGET), padding(widths, batches)),
        }
        print(f"{len(texts)} sentences, {tokens} tokens wanted; {options.shape}, {options.device}, budget {budget}\n")
        print("| way | sentences/s | tokens/s | against generate | padding | in the model |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        base = 0.0
        for name, (run, empty) in ways.items():
            run(texts[:8])
            if cuda:
                torch.cuda.synchronize()
            clock.seconds = 0.0
            started = time.perf_counter()
            run(texts)
            if cuda:
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
            base = base or seconds
            rates = f"{len(texts) / seconds:.1f} | {tokens / seconds:,.0f} | {base / seconds:.2f} | {empty:.1%}"
            rates += f" | {clock.seconds / seconds:.0%}"
            print(f"| {name} | {rates} |", flush=True)


if __name__ == "__main__":
    main()
