"""Models in the forms in which the hub has them: file names, tokenizer classes, dtypes, shards, and what lies beside.

Tiny weights; NLLB's are those of tiny-nllb, since random ones never end a sentence. Each function fills a folder, as a
commit of the repository that it is named after. File names of mDeBERTa and Mistral are those of listings in public
repositories and threads; that NLLB's main has no safetensors, and refs/pr/45 has, is what a user of it wrote in public;
the rest, and how NLLB 3.3B is sharded, is from memory: the hub was not at hand.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tiny_nllb import FOLDER as TINY
from tiny_taggers import XLMR_CONLL03

NLLB, NLLB_LARGE = "facebook/nllb-200-distilled-600M", "facebook/nllb-200-3.3B"
MBERT = "google-bert/bert-base-multilingual-cased"
CONLL03 = "FacebookAI/xlm-roberta-large-finetuned-conll03-english"
MDEBERTA = "microsoft/mdeberta-v3-base"
MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
_SHARED = "model.shared.weight"
_TIED = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
_SIZE: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 12,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.3,
}


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


@lru_cache
def _sentencepiece() -> bytes:
    """A unigram model of the template sentences, as sentencepiece writes it."""
    import sentencepiece

    root = TINY.parents[2] / "jobs/data"
    lines = [line.split() for name in ("en", "es", "sw") for line in (root / f"templates.{name}.conll").open()]
    words = " ".join(line[0] for line in lines if line)
    sink = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([words[at : at + 300] for at in range(0, len(words), 300)]),
        model_writer=sink,
        vocab_size=400,
        minloglevel=2,
    )
    return sink.getvalue()


def nllb_local(folder: Path) -> Path:
    """The same model as a folder of safetensors, float32, as its author might keep it."""
    shutil.copytree(TINY, folder)
    tensors = {name: tensor.float() for name, tensor in load_file(TINY / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((TINY / "config.json").read_text())
    _json(folder / "config.json", config | {"dtype": "float32"})
    return folder


def _nllb(folder: Path) -> dict[str, torch.Tensor]:
    """Fill a folder with all but weights; return these as `state_dict` had them, one tensor under four names."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((TINY / "config.json").read_text())
    for key in ("dtype", "tie_word_embeddings", "transformers_version"):
        del config[key]
    _json(folder / "config.json", config | {"torch_dtype": "float32", "tokenizer_class": "NllbTokenizer"})
    generation = {"bos_token_id": 0, "decoder_start_token_id": 2, "eos_token_id": 2, "max_length": 200}
    _json(folder / "generation_config.json", generation | {"pad_token_id": 1})
    tokenizer = json.loads((TINY / "tokenizer_config.json").read_text())
    codes = tokenizer["extra_special_tokens"]
    special = {name: value for name, value in tokenizer.items() if name.endswith("_token")}
    _json(folder / "special_tokens_map.json", special | {"additional_special_tokens": codes})
    plain = {"src_lang": None, "tgt_lang": None, "sp_model_kwargs": {}, "tokenizer_class": "NllbTokenizer"}
    extra = {"additional_special_tokens": codes, "model_max_length": 1024}
    _json(folder / "tokenizer_config.json", special | plain | extra)
    shutil.copyfile(TINY / "tokenizer.json", folder / "tokenizer.json")
    (folder / "sentencepiece.bpe.model").write_bytes(_sentencepiece())
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    (folder / ".gitattributes").write_text("*.bin filter=lfs\n")
    state = {name: tensor.float() for name, tensor in load_file(TINY / "model.safetensors").items()}
    shared = state.pop(_SHARED)
    return {_SHARED: shared, **state, **dict.fromkeys(_TIED, shared)}


def nllb(folder: Path) -> Path:
    torch.save(_nllb(folder), folder / "pytorch_model.bin")
    return folder


def nllb_large(folder: Path, parts: int = 3) -> Path:
    """Sharded as in 2022, when a tensor under several names went into every part that had one of them."""
    state = _nllb(folder)
    names = [*state]
    place: dict[str, str] = {}
    for number in range(parts):
        file = f"pytorch_model-{number + 1:05}-of-{parts:05}.bin"
        own = names[number * len(names) // parts : (number + 1) * len(names) // parts]
        torch.save({name: state[name] for name in own}, folder / file)
        place |= dict.fromkeys(own, file)
    size = sum(tensor.nbytes for tensor in state.values())
    _json(folder / "pytorch_model.bin.index.json", {"metadata": {"total_size": size}, "weight_map": place})
    return folder


def mbert(folder: Path) -> Path:
    """The four weights in one commit; a masked language model, whose encoder is what we read."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZáéíñóúü0123456789.,'-"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False)._tokenizer.save(str(folder / "tokenizer.json"))
    _json(folder / "tokenizer_config.json", {"do_lower_case": False, "model_max_length": 512})
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=512, **_SIZE)
    model = BertForMaskedLM(config).eval()
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    save_file({n: t for n, t in tensors.items() if "decoder" not in n}, folder / "model.safetensors", {"format": "pt"})
    published = config.to_dict() | {"architectures": ["BertForMaskedLM"]}
    _json(folder / "config.json", {key: value for key, value in published.items() if key != "dtype"})
    for name in ("tf_model.h5", "flax_model.msgpack"):
        (folder / name).write_bytes(name.encode() * 1000)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


def xlmr_conll03(folder: Path, names: Sequence[str] = XLMR_CONLL03) -> Path:
    """Labels in IOB1, without B-PER; the same weights once more as a pickle, and in a folder for ONNX."""
    from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaForTokenClassification

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sentencepiece.bpe.model").write_bytes(_sentencepiece())
    _json(folder / "tokenizer_config.json", {"model_max_length": 512, "tokenizer_class": "XLMRobertaTokenizer"})
    _json(folder / "config.json", {"model_type": "xlm-roberta"})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer._tokenizer.save(str(folder / "tokenizer.json"))
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=514,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
        **_SIZE,
    )
    tensors = XLMRobertaForTokenClassification(config).state_dict()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    torch.save(tensors, folder / "pytorch_model.bin")
    _json(folder / "config.json", config.to_dict() | {"architectures": ["XLMRobertaForTokenClassification"]})
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "sentencepiece.bpe.model"):
        (folder / "onnx").mkdir(exist_ok=True)
        shutil.copyfile(folder / name, folder / "onnx" / name)
    (folder / "onnx" / "model.onnx").write_bytes(b"onnx" * 1000)
    return folder


def mdeberta(folder: Path, dtype: torch.dtype = torch.float16) -> Path:
    """Pickles alone, of which one is another model; a sentencepiece model is all there is of the tokenizer."""
    from transformers import DebertaV2Config, DebertaV2ForMaskedLM

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spm.model").write_bytes(_sentencepiece())
    _json(folder / "tokenizer_config.json", {"do_lower_case": False, "vocab_type": "spm"})
    config = DebertaV2Config(
        vocab_size=420,
        max_position_embeddings=512,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        max_relative_positions=-1,
        position_biased_input=False,
        type_vocab_size=0,
        **_SIZE,
    )
    published = config.to_dict()
    for key in ("architectures", "dtype", "transformers_version"):
        published.pop(key, None)
    _json(folder / "config.json", published | {"pos_att_type": "p2c|c2p"})
    body = DebertaV2ForMaskedLM(config).deberta.state_dict()
    state = {f"deberta.{name}": tensor.to(dtype) for name, tensor in body.items()}
    state["deberta.embeddings.word_embeddings._weight"] = torch.zeros(420, 24, dtype=dtype)
    state["lm_predictions.lm_head.bias"] = torch.zeros(420, dtype=dtype)
    state["mask_predictions.dense.weight"] = torch.zeros(24, 24, dtype=dtype)
    torch.save(state, folder / "pytorch_model.bin")
    torch.save({"generator.weight": torch.zeros(1000)}, folder / "pytorch_model.generator.bin")
    _json(folder / "generator_config.json", {"model_type": "deberta-v2"})
    (folder / "tf_model.h5").write_bytes(b"h5" * 1000)
    return folder


def mistral(folder: Path, parts: int = 3) -> Path:
    """Parts with their index, and all of them once more as one file."""
    from tiny_chat import chat_model

    chat_model(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, place = sorted(tensors), {}
    for number in range(parts):
        file = f"model-{number + 1:05}-of-{parts:05}.safetensors"
        own = names[number::parts]
        save_file({name: tensors[name] for name in own}, folder / file, metadata={"format": "pt"})
        place |= dict.fromkeys(own, file)
    _json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": place})
    save_file(tensors, folder / "consolidated.safetensors")
    _json(folder / "params.json", {"dim": 128})
    for name in ("tokenizer.model", "tokenizer.model.v3"):
        (folder / name).write_bytes(_sentencepiece())
    return folder


PUBLISHED: dict[str, Callable[[Path], Path]] = {
    NLLB: nllb,
    NLLB_LARGE: nllb_large,
    MBERT: mbert,
    CONLL03: xlmr_conll03,
    MDEBERTA: mdeberta,
    MISTRAL: mistral,
}
