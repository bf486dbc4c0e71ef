"""What the checks work with: the machine, the models on it, and the sentences.

Models with random weights have the published shapes. They never end a sentence, so an end is put where a translation
of that source would have one: after 1.2 times its subwords.
"""

from __future__ import annotations

import gc
import importlib.metadata
import math
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from sample_text import SAMPLES, conll
from simulated_times import unlike
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForSeq2SeqLM,
    LogitsProcessor,
    LogitsProcessorList,
    M2M100Config,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
)

from xner_ray.align.encoder import Encoder
from xner_ray.models.hub import quiet
from xner_ray.recipe.sections import Translate
from xner_ray.sizing.roofline import DEVICES
from xner_ray.translate.nllb import NllbTranslator

SOURCE, TARGET = "eng_Latn", "spa_Latn"
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow", "ctranslate2", "ray")
_LONGER = 1.2  # subwords of a translation for each of its source
_PIECE = 4  # characters of a subword


@dataclass(frozen=True)
class Sizes:
    """How much the checks do. translator, encoder: shapes, as of their configurations."""

    rows: int = 1024  # for the clock
    few: int = 256  # for batches of 16, and for comparisons
    plain: tuple[int, ...] = (16, 32)  # rows of a batch, as a user would write it
    memory_rows: int = 1024
    leave_gb: tuple[float, ...] = (12, 4)
    translator: Mapping[str, int] | None = None
    encoder: Mapping[str, int] | None = None


NLLB_600M = {"d_model": 1024, "layers": 12, "ffn_dim": 4096, "attention_heads": 16, "vocab_size": 256_206}
XLM_R_BASE = {
    **{"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072},
    **{"num_attention_heads": 12, "vocab_size": 250_002},
}


class Busy:
    """The shares of time in which a device was busy, as they were sampled."""

    def __init__(self) -> None:
        self.samples: list[float] = []

    @property
    def share(self) -> float | None:
        return sum(self.samples) / len(self.samples) if self.samples else None


class Cuda:
    """The GPU of this process."""

    kind, gpus = "cuda", 1

    def described(self) -> dict[str, str]:
        return {"GPU": self.name, "memory, GB": f"{torch.cuda.mem_get_info()[1] / 1e9:.0f}", **_versions()}

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name()

    @property
    def known(self) -> str | None:
        """The name of this GPU in sizing/roofline.py."""
        return known_gpu(self.name)

    def free_bytes(self) -> int:
        self.clear()
        return int(torch.cuda.mem_get_info()[0])

    def allocated(self) -> int:
        torch.cuda.synchronize()
        return int(torch.cuda.memory_allocated())

    def begin_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        return int(torch.cuda.max_memory_allocated())

    def wait(self) -> None:
        torch.cuda.synchronize()

    def clear(self) -> None:
        gc.collect()
        with suppress(RuntimeError):  # of a device that fails; the next check says so
            torch.cuda.empty_cache()

    @contextmanager
    def leaving(self, n_bytes: int) -> Iterator[None]:
        """Hold all memory of the device but so much."""
        held = torch.empty(max(0, self.free_bytes() - n_bytes), dtype=torch.uint8, device="cuda")
        try:
            yield
        finally:
            del held
            self.clear()

    @contextmanager
    def busy(self) -> Iterator[Busy]:
        """Sample how busy the device is, by a program of its own, so that our interpreter is left alone."""
        found = Busy()
        program = shutil.which("nvidia-smi")
        if program is None:
            yield found
            return
        asked = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", f"--id={_smi_id()}", "--loop-ms=200"]
        sampler = subprocess.Popen([program, *asked], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            yield found
        finally:
            sampler.terminate()
            said = sampler.communicate()[0].split("\n")[:-1]  # what follows the last line end is half a line
            found.samples += [float(line) / 100 for line in said if line.strip().isdigit()]

    def attach(self, translator: NllbTranslator) -> NllbTranslator:
        return translator


def known_gpu(name: str) -> str | None:
    """Return the name in sizing/roofline.py of a GPU by the name that its driver gives.

    >>> known_gpu("NVIDIA A100-SXM4-40GB"), known_gpu("NVIDIA L40S")
    ('A100', None)
    """
    words = re.split(r"[^0-9A-Za-z]+", name)
    return next((known for known in DEVICES if known in words), None)


def _smi_id() -> str:
    """Return the name of our GPU for nvidia-smi, which numbers all of a machine, whatever this process may see."""
    own = getattr(torch.cuda.get_device_properties(0), "uuid", None) if torch.cuda.is_available() else None
    return f"GPU-{own}" if own else "0"


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    if program := shutil.which("nvidia-smi"):
        asked = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split("\n")
        found["driver"] = said[0].strip()
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


class Ends(LogitsProcessor):
    """Ends a row of a random model where `ends`, [rows], says, counted in generated subwords."""

    def __init__(self, ends: torch.Tensor, end: int) -> None:
        self.ends, self.end = ends, end

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        over = input_ids.shape[1] >= self.ends
        scores[:, self.end] = torch.where(over, 1e9, -math.inf).to(scores.dtype)
        return scores


class Rig:
    """The models of a machine. translator, encoder: names as in a recipe; None: of random weights."""

    def __init__(
        self, machine: Any, sizes: Sizes, *, translator: str | None = None, encoder: str | None = None, layer: int = 8
    ) -> None:
        self.machine, self.sizes, self.layer = machine, sizes, layer
        self._translator, self._encoder = translator, encoder

    @property
    def is_random(self) -> bool:
        return self._translator is None

    @cached_property
    def english(self) -> list[str]:
        return unlike(_europarl("en"), self.sizes.rows, 0)

    @cached_property
    def spanish(self) -> list[str]:
        return unlike(_europarl("es"), self.sizes.rows, 1)

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="xner-ray-gpu-")

    @cached_property
    def translator_model(self) -> str:
        if self._translator is not None:
            return self._translator
        shape = dict(self.sizes.translator or NLLB_600M)
        halves = {
            f"{half}_{key}": shape[key]
            for half in ("encoder", "decoder")
            for key in ("layers", "ffn_dim", "attention_heads")
        }
        own = {"d_model": shape["d_model"], "vocab_size": shape["vocab_size"], "max_position_embeddings": 1024}
        ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
        # An output matrix of its own: tied to the embeddings, a random model repeats the last token for ever
        config = M2M100Config(**own, **halves, **ids, scale_embedding=True, tie_word_embeddings=False)
        return self._made("translator", AutoModelForSeq2SeqLM, config, f"{SOURCE} $A </s>")

    @cached_property
    def encoder_model(self) -> str:
        if self._encoder is not None:
            return self._encoder
        config = XLMRobertaConfig(
            **(self.sizes.encoder or XLM_R_BASE), max_position_embeddings=514, type_vocab_size=1, pad_token_id=1
        )
        return self._made("encoder", AutoModel, config, "<s> $A </s>")

    def _made(self, name: str, loader: Any, config: PretrainedConfig, template: str) -> str:
        """Make a model on the device, and write it with a tokenizer where the ordinary way finds it."""
        folder = Path(self._folder.name) / name
        pieces = [text[at : at + _PIECE] for line in (*self.english, *self.spanish) for text in line.split(" ")
                  for at in range(0, len(text), _PIECE)]  # fmt: skip
        tokenizer_of(pieces, config.vocab_size, template).save_pretrained(folder)
        torch.manual_seed(0)
        dtype = torch.float16 if self.machine.kind == "cuda" else torch.float32
        with quiet(), torch.device(self.machine.kind):
            model = loader.from_config(config, dtype=dtype)
            model.save_pretrained(folder)
        del model
        self.machine.clear()
        return str(folder)

    def translator(self, dtype: Any = "auto", beams: int = 1) -> NllbTranslator:
        section = Translate(
            engine="nllb", model=self.translator_model, dtype=dtype, beams=beams, gpus=self.machine.gpus
        )
        translator: NllbTranslator = self.machine.attach(NllbTranslator(section))
        if self.is_random:
            translator.model.generate = _ending(translator.model.generate, translator.tokenizer.eos_token_id)
        return translator

    def encoder(self, dtype: Any = "auto") -> Encoder:
        return Encoder(self.encoder_model, layer=self.layer, device=self.machine.kind, dtype=dtype,
                       micro_batch_tokens=1 << 16)  # fmt: skip

    def plain(self, translator: NllbTranslator, texts: Sequence[str], rows: int) -> list[str]:
        """Translate as a user of transformers would: in the order given, so many rows a batch."""
        tokenizer, model = translator.tokenizer, translator.model
        tokenizer.src_lang = SOURCE
        found: list[str] = []
        for start in range(0, len(texts), rows):
            inputs = tokenizer(list(texts[start : start + rows]), padding=True, return_tensors="pt").to(model.device)
            with torch.inference_mode():
                sequences = model.generate(
                    **inputs,
                    forced_bos_token_id=tokenizer.convert_tokens_to_ids(TARGET),
                    max_new_tokens=256,
                    num_beams=1,
                    do_sample=False,
                )
            found += tokenizer.batch_decode(sequences, skip_special_tokens=True)
        return found

    def close(self) -> None:
        if "_folder" in self.__dict__:
            self._folder.cleanup()


def _europarl(name: str) -> list[str]:
    return [" ".join(sentence) for sentence in conll(SAMPLES / f"europarl.{name}.conll")]


def _ending(generate: Any, end: int) -> Any:
    def ended(**options: Any) -> Any:
        ends = (options["attention_mask"].sum(1) * _LONGER).round().repeat_interleave(options.get("num_beams", 1))
        own = options.pop("logits_processor", [])
        return generate(**options, logits_processor=LogitsProcessorList([*own, Ends(ends, end)]))

    return ended


def tokenizer_of(pieces: Sequence[str], size: int, template: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of `size` subwords that cuts words into pieces of some characters. template: around a text."""
    special = ["<s>", "<pad>", "</s>", "<unk>", SOURCE, TARGET]
    known = list(dict.fromkeys(pieces))[: size - len(special)]
    names = [*special, *known, *(f"word{number}" for number in range(size - len(special) - len(known)))]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    cut = pre_tokenizers.Split(Regex(f".{{1,{_PIECE}}}"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), cut])
    used = [(name, vocabulary[name]) for name in template.split() if name != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        additional_special_tokens=[SOURCE, TARGET],
        model_input_names=["input_ids", "attention_mask"],
    )
