"""A run is what a token-classification trainer reads as it is: only the folder and a language are given."""

from pathlib import Path
from typing import Any

import pytest

import xner_ray
from xner_ray.models.e5 import builtin_folder

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_trainer_reads_the_folder(tmp_path: Path) -> None:
    """The decisions of transformers' own token-classification example (run_ner.py), made from the data alone."""
    import datasets
    from transformers import (
        AutoTokenizer,
        BertConfig,
        BertForTokenClassification,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
    )

    run = tmp_path / "run"
    xner_ray.project(JOBS / "quickstart.yaml", run, overrides=["input.limit=40", "output.incomplete=split"])
    data = datasets.load_dataset(str(run), "spa_Latn", cache_dir=str(tmp_path / "cache"))
    train = data["train"]
    assert "tokens" in train.column_names
    assert "ner_tags" in train.column_names
    assert isinstance(train.features["ner_tags"].feature, datasets.ClassLabel)
    names = train.features["ner_tags"].feature.names
    assert names[0] == "O"
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder())

    def encode(examples: dict[str, Any]) -> Any:
        encoded = tokenizer(examples["tokens"], truncation=True, is_split_into_words=True)
        encoded["labels"] = []
        for number, tags in enumerate(examples["ner_tags"]):
            words = encoded.word_ids(batch_index=number)
            first = [w is not None and (p == 0 or words[p - 1] != w) for p, w in enumerate(words)]
            encoded["labels"].append([tags[w] if f else -100 for w, f in zip(words, first, strict=True)])
        return encoded

    encoded = train.map(encode, batched=True, remove_columns=train.column_names)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=len(names),
    )
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=3, report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no"
    )
    trainer = Trainer(
        model=BertForTokenClassification(config),
        args=arguments,
        train_dataset=encoded,
        data_collator=DataCollatorForTokenClassification(tokenizer),
    )
    assert trainer.train().training_loss > 0
