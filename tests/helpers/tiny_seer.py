"""A tiny random vision-language model in the files of one on the hub: an Idefics3, for which vLLM needs no torchvision.

It has random weights, so what it says means nothing; but it says one thing of one picture and another of another, and a
schema keeps it to JSON. The chat template takes messages in parts, as those of such models do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

IMAGE, END = "<image>", "<end_of_utterance>"
OTHERS = ["<fake_token_around_image>", "<global-img>", END]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}" + IMAGE + "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}" + END + "\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
TWICE = TEMPLATE.replace(IMAGE, IMAGE * 2)
BLIND = TEMPLATE.replace(IMAGE, "")
SIDE, POSITIONS, SEQUENCE = 64, 2048, 4
_PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]


def seer(folder: Path, template: str = TEMPLATE) -> str:
    """Make the folder with configuration, processor and weights (2 MB)."""
    torch.manual_seed(3)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, **special, additional_special_tokens=[IMAGE, *OTHERS, *_PLACES]
    )
    tokenizer.chat_template = template
    # Always in tiles: of a picture in one piece transformers 5.23 says that it has none, which vLLM 0.29 takes for 0
    pictures = Idefics3ImageProcessorPil(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    processor = Idefics3Processor(
        image_processor=pictures, tokenizer=tokenizer, image_seq_len=SEQUENCE, chat_template=template
    )
    shape: dict[str, Any] = {"intermediate_size": 128, "num_hidden_layers": 2}
    config = Idefics3Config(
        vision_config={"hidden_size": 64, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 16, **shape},
        text_config={
            **{"model_type": "llama", "vocab_size": (len(tokenizer) + 63) // 64 * 64, "hidden_size": 128},
            **{"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": POSITIONS, **shape},
        },
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
    )
    model = Idefics3ForConditionalGeneration(config)
    with torch.no_grad():  # else a picture says next to nothing beside the words
        model.model.connector.modality_projection.proj.weight.mul_(40)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
