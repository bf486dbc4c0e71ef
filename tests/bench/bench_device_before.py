"""One case of `bench_device.py` by the code of commit 852dcb8, the last one before GPUs were thought of.

    python tests/bench/bench_device_before.py CHECKOUT CASE ROWS UNIT_ROWS GPU

CHECKOUT: a folder with that commit (`git worktree add`). The roofline is ours, the stages are its own, with the token
budgets that it had by default. Its translator read the source again for the scores, which the device is charged for.
Prints a line of JSON.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]


def _ours(checkout: str) -> None:
    """Let `xner_ray` be that of the checkout, but for the roofline, and the helpers ours."""
    sys.path[:0] = [checkout, str(ROOT / "tests/helpers")]
    sys.modules["xner_ray.sizing"] = ModuleType("xner_ray.sizing")
    name = "xner_ray.sizing.roofline"
    spec = importlib.util.spec_from_file_location(name, ROOT / "xner_ray/sizing/roofline.py")
    assert spec is not None and spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


def _units(source: Sequence[str], target: Sequence[str] | None, unit_rows: int, langs: tuple[str, str]) -> list[Any]:
    """Return units, as `made_rows.unit_tables` does."""
    from xner_ray.spans import Span

    from xner_ray import schema, words

    rows = []
    for number, text in enumerate(source):
        row: dict[str, Any] = {"row": number, "id": str(number), "source_lang": langs[0], "lang": langs[1]}
        sides = [("source_", text, langs[0]), *([("", target[number], langs[1])] if target is not None else [])]
        for prefix, own, lang in sides:
            offsets = words.split(own, lang)
            row |= {f"{prefix}text": own, f"{prefix}offsets": schema.offset_cells(offsets)}
            row[f"{prefix}tokens"] = [own[a:b] for a, b in offsets]
        rows.append({**row, "split": "train", "source_spans": schema.span_cells([Span(0, 1, "PER")])})
    starts = range(0, len(rows), unit_rows)
    return [schema.table_from_rows(rows[start : start + unit_rows], schema.ROW) for start in starts]


def _work(case: Any, device: Any, answers: Mapping[str, str], units: Sequence[Any], parts: Any) -> Callable[[], float]:
    import device_bench as bench
    import torch
    from simulated_times import WIDTH
    from xner_ray.aligner import BatchAligner
    from xner_ray.envelope import pack, unpack
    from xner_ray.guard import run_stage
    from xner_ray.recall import Recall
    from xner_ray.recipe_file import load_recipe
    from xner_ray.stages import AlignStage, TranslateStage

    from xner_ray import aligner as aligner_module
    from xner_ray import builtin_encoder, encode, encoder_network, words
    from xner_ray.translate.nllb import NllbTranslator, tokenizer_of

    simulation = {"s": 0.0}

    class Nllb(NllbTranslator):
        """An NLLB that knows its answers."""

        def __init__(self, recipe: Any) -> None:
            section = recipe.translate
            self.name, self.beams, self.max_new_tokens, self.positions = "simulated", case.beams, None, 1024
            self.micro_batch_tokens, self.tokens, self.recall = section.micro_batch_tokens, 0, Recall()
            self.tokenizer = tokenizer_of("tiny-nllb")
            self.model = self
            self.device = torch.device("cpu")
            self.tokenizer.src_lang = bench.LANGS[0]
            asked = self.tokenizer(list(answers), split_special_tokens=True)["input_ids"]
            self.tokenizer.src_lang = bench.LANGS[1]
            given = self.tokenizer(list(answers.values()), split_special_tokens=True)["input_ids"]
            end = self.tokenizer.eos_token_id
            self.answers = {tuple(ids): [end, *out] for ids, out in zip(asked, given, strict=True)}

        def generate(self, input_ids: Any, attention_mask: Any, **_: Any) -> Any:
            started = time.process_time()
            masks = zip(input_ids.tolist(), attention_mask.sum(1).tolist(), strict=True)
            rows = [self.answers[tuple(row[:length])] for row, length in masks]
            longest = max(map(len, rows))
            padded = [row + [self.tokenizer.pad_token_id] * (longest - len(row)) for row in rows]
            simulation["s"] += time.process_time() - started
            device.run(case.translate(len(rows), input_ids.shape[1], longest - 1))
            return torch.tensor(padded)

        def _scores(self, inputs: Any, mask: Any, sequences: Any, lengths: list[int | None]) -> list[float]:
            """Charge the device for reading the sources again, and take the mean of each row as its code does."""
            device.run(case.encode(*inputs.shape))
            found = torch.zeros(sequences.shape[0], sequences.shape[1] - 1)
            return [float(row[1 : length or len(row)].mean()) for row, length in zip(found, lengths, strict=True)]

    class Encoder(encode.Encoder):
        """The built-in encoder's tokenizer, and a vector for each subword."""

        def __init__(self) -> None:
            self.tokenizer, module = encoder_network.load(str(builtin_encoder.builtin_folder()), torch.float32)
            self.spelt = encoder_network.spelt_specials(self.tokenizer)
            self.positions = encoder_network.positions_of(module, self.tokenizer)
            self.device, self.micro_batch_tokens, self.tokens, self.padding = torch.device("cpu"), 4096, 0, 0
            self.layers, self.dim, self.precision = [1], WIDTH, "float32"
            vectors = torch.randn(len(self.tokenizer), WIDTH, generator=torch.Generator().manual_seed(0))

            def states(inputs: Mapping[str, Any]) -> Any:
                started = time.process_time()
                found = vectors[inputs["input_ids"]]
                simulation["s"] += time.process_time() - started
                device.run(case.align(*inputs["input_ids"].shape))
                return found

            self.network: Any = states

    encode.CPU_TOKENS = 1 << 30  # a GPU has no such bound
    recipe = load_recipe({"input": {"path": "a.conll"}, "targets": [bench.LANGS[1]]})
    encoder = Encoder()
    stages: list[Any] = [AlignStage(recipe, BatchAligner(encoder))]
    inner = lambda: simulation["s"]  # noqa: E731
    if case.translate:
        stages.insert(0, TranslateStage(recipe, Nllb(recipe)))
        parts.watch(stages[0].translator, "translate", bench.TRANSLATE, inner)
        parts.watch(stages[0].examiner, "examine", bench.HEALTH)
    parts.watch(words, "split", bench.WORDS)
    parts.watch(encoder, "encode", bench.ENCODE, inner)
    parts.watch(aligner_module, "align", bench.LINKS)

    def run() -> float:
        for number, table in enumerate(units):
            name, found, counted = unpack(pack(f"spa_Latn-{number:012d}", table, {}))
            for stage in stages:
                found, _ = run_stage(stage, found)
            pack(name, found, counted)
        return simulation["s"]

    return run


def main() -> None:
    checkout, number, rows, unit_rows, gpu = sys.argv[1:]
    _ours(checkout)
    import device_bench as bench

    case = bench.cases(gpu)[int(number)]
    source, target = bench.texts(int(rows))
    units = _units(source, None if case.translate else target, int(unit_rows), bench.LANGS)
    answers = dict(zip(source, target, strict=True)) if case.translate else {}
    found = bench.measure(case, units, answers, int(rows), 1, _work)
    print(json.dumps(dataclasses.asdict(found)))


if __name__ == "__main__":
    main()
