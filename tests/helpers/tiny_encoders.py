"""Tiny random models of many kinds, and their word vectors by the plain way.

Real architectures and tokenizers on the CPU; only the weights are random.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)  # two threads spin for ever on shared cores

KINDS = ["bert", "xlm-roberta", "modernbert", "m2m_100", "bart", "t5", "albert"]
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
N_LAYERS, WIDTH, POSITIONS = 4, 16, 32
SENTENCES = [
    ["the", "cat", "sat", "on", "a", "mat"],
    ["x"],
    ["one", "two", "three", "four", "five", "six"],
    ["tiny", "models", "make", "quick", "tests"],
    [],
    ["ab", "ba"],
]


def save_tokenizer(folder: Path, **options: Any) -> None:
    """One subword a letter, one for the space before a word; a zero-width joiner gives none."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = Tokenizer(models.Unigram([*vocabulary, *((c, -1.0) for c in "▁" + ALPHABET)], unk_id=3))
    tokenizer.normalizer = normalizers.Replace("\u200d", "")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **options).save_pretrained(folder)


def tiny(folder: Path, kind: str) -> str:
    """Save a random model with 4 layers that reads 32 tokens."""
    import transformers as t

    torch.manual_seed(0)
    common = {
        "vocab_size": 31,
        "hidden_size": WIDTH,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    halves = {f"{half}_{name}": value for half in ("encoder", "decoder") for name, value in
              {"layers": N_LAYERS, "attention_heads": 2, "ffn_dim": 24}.items()}  # fmt: skip
    seq2seq = {"vocab_size": 31, "d_model": WIDTH, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    seq2seq |= {"max_position_embeddings": POSITIONS, "decoder_start_token_id": 2, **halves}
    makers: dict[str, Any] = {
        "bert": lambda: t.BertModel(t.BertConfig(**common)),
        "xlm-roberta": lambda: t.XLMRobertaModel(
            t.XLMRobertaConfig(**common | {"max_position_embeddings": POSITIONS + 2})
        ),
        "modernbert": lambda: t.ModernBertModel(
            t.ModernBertConfig(**common, cls_token_id=0, sep_token_id=2, global_attn_every_n_layers=2)
        ),
        "albert": lambda: t.AlbertModel(t.AlbertConfig(**common, embedding_size=8)),
        "m2m_100": lambda: t.M2M100Model(t.M2M100Config(**seq2seq)),
        "bart": lambda: t.BartModel(t.BartConfig(**seq2seq)),
        "t5": lambda: t.T5Model(
            t.T5Config(
                vocab_size=31, d_model=WIDTH, d_kv=8, d_ff=24, num_layers=N_LAYERS, num_heads=2,
                pad_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            )
        ),
    }  # fmt: skip
    makers[kind]().eval().save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


@functools.lru_cache(maxsize=1)
def _whole(model: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    network = AutoModel.from_pretrained(model).eval()
    encoder = network.get_encoder() if network.config.is_encoder_decoder else network
    return AutoTokenizer.from_pretrained(model), encoder


def word_means(model: str, layer: int, words: list[str]) -> np.ndarray:
    """Word vectors by the plain way: one sentence, every layer, a loop over the words."""
    tokenizer, network = _whole(model)
    tokens = tokenizer([words], is_split_into_words=True, return_tensors="pt")
    inputs = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
    with torch.inference_mode():
        states = network(**inputs, output_hidden_states=True).hidden_states[layer][0].numpy()
    word_ids = np.array([-1 if word is None else word for word in tokens.word_ids(0)])
    return np.stack([states[word_ids == word].mean(axis=0) for word in range(len(words))])
