"""Tiny token classifiers of real architectures: random ones, and one that gives each letter a known row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from xner_ray.recipe.sections import Tag
from xner_ray.tag.hf import HfTagger

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
POSITIONS = 32
VOCABULARY = ["<s>", "<pad>", "</s>", "<unk>", *ALPHABET]
IOB2 = ["B-PER", "O", "I-LOC", "I-PER", "B-LOC"]  # in no order on purpose
XLMR_CONLL03 = ["B-LOC", "B-MISC", "B-ORG", "I-LOC", "I-MISC", "I-ORG", "I-PER", "O"]  # method.md 1.3


def save_tokenizer(folder: Path) -> None:
    """One subword a letter; a zero-width joiner gives none. As XLM-R's, it has special tokens among its pieces."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram([(t, 0.0 if len(t) > 1 else -1.0) for t in VOCABULARY], unk_id=3))
    tokenizer.normalizer = normalizers.Replace("\u200d", "")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def config(names: Sequence[str], **options: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    } | options


def random_model(folder: Path, kind: str = "bert", names: Sequence[str] = IOB2) -> str:
    import transformers as t

    torch.manual_seed(0)
    options = config(names)
    makers: dict[str, Callable[[], Any]] = {
        "bert": lambda: t.BertForTokenClassification(t.BertConfig(**options)),
        "xlm-roberta": lambda: t.XLMRobertaForTokenClassification(
            t.XLMRobertaConfig(**options | {"max_position_embeddings": POSITIONS + 2})
        ),
        "deberta-v2": lambda: t.DebertaV2ForTokenClassification(
            t.DebertaV2Config(**options, relative_attention=True, pos_att_type=["p2c", "c2p"])
        ),
    }
    makers[kind]().eval().save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


def table_model(folder: Path, names: Sequence[str], table: Mapping[str, Mapping[str, float]]) -> str:
    """A real BERT without layers that gives each piece the class probabilities of `table`; the rest goes to O."""
    from transformers import BertConfig, BertForTokenClassification

    size = len(VOCABULARY)
    options = config(names, hidden_size=size, num_hidden_layers=0, num_attention_heads=1)
    model = BertForTokenClassification(BertConfig(**options)).eval()
    with torch.no_grad():
        embeddings = model.bert.embeddings
        for part in (embeddings.position_embeddings, embeddings.token_type_embeddings, model.classifier):
            part.weight.zero_()
        embeddings.word_embeddings.weight.copy_(torch.eye(size))
        # The norm makes two values of a one-hot row; its bias takes the lower one away.
        on, off = embeddings(torch.tensor([[5]]))[0, 0, [5, 6]].tolist()
        embeddings.LayerNorm.bias.fill_(-off)
        model.classifier.bias.zero_()
        for piece in range(size):
            row = table.get(VOCABULARY[piece], {})
            row = {"O": 1.0 - sum(row.values()), **row}
            chances = torch.tensor([max(row.get(name, 0.0), 1e-12) for name in names])
            model.classifier.weight[:, piece] = chances.log() / (on - off)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


def tagger(model: str, **options: Any) -> HfTagger:
    return HfTagger(Tag(engine="hf", model=model, **options))
