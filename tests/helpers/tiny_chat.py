"""A tiny Llama that answers, with weights set by hand, in the files of a model on the Hub.

One layer attends to every token of the prompt alike, so it knows which of its names stand there; the head knows which
token follows which. So a sentence with Anna and Paris is translated as "Anna alifika Paris.", and tagged with these
two, if the answer must be JSON. A token is a byte, a name, or a piece of an answer. Short prompts confuse it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

START, END = "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for m in messages %}"
    + START
    + "{{ m['role'] }}\n{{ m['content'] }}"
    + END
    + "\n{% endfor %}{% if add_generation_prompt %}"
    + START
    + "assistant\n{% endif %}"
)
REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
POSITIONS = 2048

PEOPLE, PLACES = ("Anna", "Juma", "Omar"), ("Paris", "Nairobi", "Kenya")
LOOP = "Echo"
"""A name that it says for ever."""
NOBODY = "Mtu"
"""Who arrives where it knows nobody."""
LABELS = ("PER", "LOC")

_WORDS = (*PEOPLE, *PLACES, LOOP)
# An answer in JSON; names of people follow one piece, those of places another
_ENTITIES, _NONE, _PERSON = '{"entities": [', "]}", '{"text": "'
_PLACE, _MORE, _NAMED = '{"text":', ', {"text":', ' "'
_LABELLED = {label: f'", "label": "{label}", "occurrence": 1}}' for label in LABELS}
_ARRIVED = " alifika"
_PIECES = (_ENTITIES, _NONE, _PERSON, _PLACE, _MORE, _NAMED, *_LABELLED.values())
_SAID = (*(f" {word}" for word in (*_WORDS, NOBODY)), _ARRIVED, *_PIECES)

_WIDTH, _HEADS = 384, 6  # of the tokens, and what carries them
_SURE, _MAYBE = 50.0, 49.5  # a name in the prompt adds 1 or more to what may follow


def chat_model(folder: Path, template: str | None = TEMPLATE) -> str:
    """Make the folder with configuration, tokenizer and weights (7 MB)."""
    tokenizer = _tokenizer()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, additional_special_tokens=[START]
    )
    wrapped.chat_template = template
    wrapped.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=2 * _WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        head_dim=_WIDTH // _HEADS,
        max_position_embeddings=POSITIONS,
        bos_token_id=None,
        eos_token_id=wrapped.convert_tokens_to_ids(END),
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    _set_weights(model, {token: wrapped.convert_tokens_to_ids(_bytes(token)) for token in (*_WORDS, *_SAID, "\n", ".")})
    model.save_pretrained(folder)
    return str(folder)


def translated(text: str) -> str:
    """Return how it translates a text without `LOOP`, and with at most one person and one place."""
    who = next((name for name in PEOPLE if name in text), NOBODY)
    where = next((f" {name}" for name in PLACES if name in text), "")
    return f"{who}{_ARRIVED}{where}."


def _bytes(text: str) -> str:
    """Return a token as byte-level tokenizers write it."""
    return "".join({" ": "Ġ", "\n": "Ċ"}.get(letter, letter) for letter in text)


def _tokenizer() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    parts = [word[:end] for word in _WORDS for end in range(2, len(word) + 1)]
    vocabulary = dict.fromkeys([*letters, *parts, *map(_bytes, _SAID)])
    merges = [(word[: end - 1], word[end - 1]) for word in _WORDS for end in range(2, len(word) + 1)]
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(vocabulary)}, list(dict.fromkeys(merges))))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@torch.no_grad()
def _set_weights(model: LlamaForCausalLM, ids: dict[str, int]) -> None:
    """Set the weights. The lower half of a hidden state is the token, the upper half the names in the prompt."""
    for name, weight in model.named_parameters():
        if "norm" not in name:
            weight.zero_()
    model.model.embed_tokens.weight[:, : len(model.model.embed_tokens.weight)].fill_diagonal_(1.0)
    attention = model.model.layers[0].self_attn  # queries and keys of 0: every token counts alike
    attention.v_proj.weight[:, :_WIDTH].fill_diagonal_(1.0)
    each = POSITIONS / (2 * _WIDTH) ** 0.5  # a hidden state of one 1 is this root after its norm
    for word in _WORDS:
        attention.o_proj.weight[_WIDTH + ids[word], ids[word]] = each
    follows = model.lm_head.weight[:, :_WIDTH]
    seen = model.lm_head.weight[:, _WIDTH:]

    def after(token: str, certain: str | None, *possible: str) -> None:
        """Let one token follow, or one of several of which a name tells."""
        if certain is not None:
            follows[ids[certain], ids[token]] = _SURE
        for other in possible:
            follows[ids[other], ids[token]] = _MAYBE

    people, places = (*PEOPLE, LOOP), PLACES
    for word in _WORDS:
        seen[ids[word], ids[word]] = seen[ids[f" {word}"], ids[word]] = 3.0 if word == LOOP else 1.0
        seen[ids[_PERSON if word in people else _PLACE], ids[word]] = 1.25 if word in people else 1.0
        if word in places:
            seen[ids[_MORE], ids[word]] = 1.0
    after("\n", f" {NOBODY}", *(f" {word}" for word in people))
    follows[ids[_ENTITIES], ids["\n"]] = _SURE / 2  # what a schema leaves
    for word in (*PEOPLE, NOBODY):
        after(f" {word}", _ARRIVED)
    after(_ARRIVED, ".", *(f" {word}" for word in places))
    for word in places:
        after(f" {word}", ".")
    model.lm_head.weight[model.config.eos_token_id, ids["."]] = _SURE
    after(f" {LOOP}", f" {LOOP}")
    after(LOOP, LOOP)
    after(_ENTITIES, _NONE, _PERSON, _PLACE)
    after(_PERSON, None, *people)
    after(_PLACE, _NAMED)
    after(_MORE, _NAMED)
    after(_NAMED, None, *places)
    for word in PEOPLE:
        after(word, _LABELLED["PER"])
    for word in places:
        after(word, _LABELLED["LOC"])
    after(_LABELLED["PER"], _NONE, _MORE)
    after(_LABELLED["LOC"], _NONE)
    model.lm_head.weight[model.config.eos_token_id, ids[_NONE]] = _SURE
