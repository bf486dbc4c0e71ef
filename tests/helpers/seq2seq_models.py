"""Translation models of other families than NLLB, tiny, in the files in which they are published.

Each but one has learnt four sentence pairs by heart, a pair with a name in square brackets among them, in the way that
transformers documents for its family: so what a test asks of them does not come from the code under test.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers as t

PAIRS = [
    ("Bo saw An .", "An vio a Bo ."),
    ("Bo saw [An] .", "[An] vio a Bo ."),
    ("[Bo] saw An .", "An vio a [Bo] ."),
    ("Rome is old .", "Roma es vieja ."),
]
SWAHILI = [("Bo saw An .", "Bo alimwona An ."), ("Rome is old .", "Roma ni ya zamani .")]
_SIZE = {"d_model": 48, "encoder_layers": 1, "decoder_layers": 1, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}
_HEADS = {
    "attention_dropout": 0.0,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
}
Encode = Callable[[Any, Sequence[str], Sequence[str], str], dict[str, Any]]


def _pieces(texts: Sequence[str], **options: Any) -> bytes:
    """Return a SentencePiece model of texts, of single characters."""
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(list(texts) * 20),
        model_writer=writer,
        vocab_size=90,
        hard_vocab_limit=False,
        character_coverage=1.0,
        model_type="char",
        minloglevel=2,
        **options,
    )
    return writer.getvalue()


def _names(pieces: bytes) -> list[tuple[str, float]]:
    model = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    return [(model.id_to_piece(n), model.get_score(n)) for n in range(model.get_piece_size())]


def _learn(model: Any, batches: Sequence[dict[str, Any]], rate: float = 4e-3) -> None:
    """Teach a model its sentences by the loss of its own forward pass, until it knows them by heart."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    model.train()
    for _ in range(1500):
        optimizer.zero_grad()
        losses = [model(**batch).loss for batch in batches]
        if max(losses) < 0.004:
            break
        sum(losses).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


def _batch(tokenizer: Any, pairs: Sequence[tuple[str, str]], *, before: str = "", langs: Any = None) -> dict[str, Any]:
    if langs:
        tokenizer.src_lang, tokenizer.tgt_lang = langs
    sources, targets = [before + source for source, _ in pairs], [target for _, target in pairs]
    batch: dict[str, Any] = dict(tokenizer(sources, text_target=targets, padding=True, return_tensors="pt"))
    labels = batch["labels"]
    batch["labels"] = labels.masked_fill(labels == tokenizer.pad_token_id, -100)
    if langs:  # the first token is the language that is asked for, which no model can know
        start = torch.full((len(labels), 1), tokenizer.eos_token_id)
        batch["decoder_input_ids"] = torch.cat([start, labels[:, :-1]], dim=1)
        batch["labels"][:, 0] = -100
    return batch


def _all_texts() -> list[str]:
    return [text for pair in (*PAIRS, *SWAHILI) for text in pair]


def m2m_100(folder: Path) -> Path:
    """M2M-100: a token of each language, spelled by ISO 639, and a tokenizer without a fast one."""
    folder.mkdir(parents=True)
    pieces = _pieces(_all_texts())
    (folder / "sentencepiece.bpe.model").write_bytes(pieces)
    words = ["<s>", "<pad>", "</s>", "<unk>", *(name for name, _ in _names(pieces)[3:])]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    tokenizer = t.M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    tokenizer.save_pretrained(folder)
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    size = len(tokenizer) + len(tokenizer.lang_code_to_id) + tokenizer.num_madeup_words
    torch.manual_seed(0)
    model = t.M2M100ForConditionalGeneration(
        t.M2M100Config(**_SIZE, **_HEADS, **special, vocab_size=size, max_position_embeddings=64, dropout=0.0)
    )
    batches = [_batch(tokenizer, PAIRS, langs=("en", "es")), _batch(tokenizer, SWAHILI, langs=("en", "sw"))]
    _learn(model, batches)
    model.save_pretrained(folder)
    return folder


def mbart_50(folder: Path) -> Path:
    """mBART-50 many-to-many: tokens of languages with a region, and a bias of the head."""
    tokenizer = t.MBart50Tokenizer(vocab=_names(_pieces(_all_texts())))
    tokenizer.save_pretrained(folder)
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    torch.manual_seed(0)
    model = t.MBartForConditionalGeneration(
        t.MBartConfig(
            **_SIZE, **_HEADS, **special, vocab_size=len(tokenizer), max_position_embeddings=64, dropout=0.0,
            forced_eos_token_id=2,
        )
    )  # fmt: skip
    model.final_logits_bias.copy_(0.3 * torch.randn(model.final_logits_bias.shape))
    _learn(
        model,
        [_batch(tokenizer, PAIRS, langs=("en_XX", "es_XX")), _batch(tokenizer, SWAHILI, langs=("en_XX", "sw_KE"))],
    )
    model.save_pretrained(folder)
    return folder


def madlad(folder: Path, *, tied: bool = False) -> Path:
    """MADLAD-400: a T5 of version 1.1 that is told the target by a token before the text.

    tied: as T5 1.0, whose head scales what it reads; that one has learnt nothing.
    """
    codes = [f"<2{code}>" for code in ("en", "es", "sw", "iw", "zh_Latn")]
    pieces = _pieces(_all_texts(), pad_id=1, bos_id=-1, eos_id=2, unk_id=0, user_defined_symbols=codes)
    names = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *(one for one in _names(pieces)[3:])]
    order = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *names[3:]]
    tokenizer = t.T5Tokenizer(vocab=order, extra_ids=0, additional_special_tokens=[])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = t.T5ForConditionalGeneration(
        t.T5Config(
            vocab_size=len(tokenizer), d_model=48, d_kv=24, d_ff=96, num_layers=1, num_decoder_layers=1, num_heads=2,
            feed_forward_proj="relu" if tied else "gated-gelu", tie_word_embeddings=tied, dropout_rate=0.0,
            pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        )
    )  # fmt: skip
    if not tied:
        batches = [_batch(tokenizer, PAIRS, before="<2es> "), _batch(tokenizer, SWAHILI, before="<2sw> ")]
        _learn(model, batches, rate=1e-3)
    model.save_pretrained(folder)
    return folder


def opus_mt(folder: Path, *, several: bool = False) -> Path:
    """OPUS-MT: a Marian of one pair, or of several targets, each told by a token; each side is cut by its own model."""
    folder.mkdir(parents=True)
    pairs = [*PAIRS, *(SWAHILI if several else ())]
    sides = [_pieces([pair[side] for pair in pairs]) for side in (0, 1)]
    for name, pieces in zip(("source.spm", "target.spm"), sides, strict=True):
        (folder / name).write_bytes(pieces)
    codes = [">>spa<<", ">>swh<<"] if several else []
    words = dict.fromkeys(name for pieces in sides for name, _ in _names(pieces)[3:])
    listed = ["</s>", "<unk>", *codes, *words, "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(listed)}))
    tokenizer = t.MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"),
        source_lang="en", target_lang="mul" if several else "es",
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    padding = listed.index("<pad>")
    torch.manual_seed(0)
    model = t.MarianMTModel(
        t.MarianConfig(
            **_SIZE, **_HEADS, vocab_size=len(listed), max_position_embeddings=64, dropout=0.0, pad_token_id=padding,
            eos_token_id=0, decoder_start_token_id=padding, forced_eos_token_id=0, bos_token_id=0,
        )
    )  # fmt: skip
    model.final_logits_bias.copy_(0.3 * torch.randn(model.final_logits_bias.shape))
    batches = [_batch(tokenizer, PAIRS, before=">>spa<< " if several else "")]
    _learn(model, [*batches, *([_batch(tokenizer, SWAHILI, before=">>swh<< ")] if several else [])])
    model.generation_config = t.GenerationConfig(
        num_beams=6, max_length=512, bad_words_ids=[[padding]], forced_eos_token_id=0, pad_token_id=padding,
        eos_token_id=0, decoder_start_token_id=padding, renormalize_logits=True,
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def opus_mt_of_several(folder: Path) -> Path:
    return opus_mt(folder, several=True)


def t5_of_version_1(folder: Path) -> Path:
    return madlad(folder, tied=True)


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "m2m-100": m2m_100,
    "mbart-50": mbart_50,
    "madlad-400": madlad,
    "t5 with tied embeddings": t5_of_version_1,
    "opus-mt": opus_mt,
    "opus-mt of several": opus_mt_of_several,
}
TIED = "t5 with tied embeddings"
LEARNT = [name for name in FAMILIES if name != TIED]
SEVERAL = [name for name in LEARNT if name != "opus-mt"]  # know Swahili too
