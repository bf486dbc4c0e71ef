"""Folders as MasakhaNER 2.0, WikiANN and Europarl-NER are published, with invented sentences."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Sentence = list[tuple[str, str]]
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
SWAHILI: list[Sentence] = [
    [("Anna", "B-PER"), ("anaishi", "O"), ("Nairobi", "B-LOC"), (".", "O")],
    [("Mji", "O"), ("wa", "O"), ("Berlin", "B-LOC"), ("ni", "O"), ("mkubwa", "O")],
]
ENGLISH: list[Sentence] = [
    [("Anna", "B-PER"), ("lives", "O"), ("in", "O"), ("Nairobi", "B-LOC"), (".", "O")],
    [("The", "O"), ("city", "O"), ("of", "O"), ("Berlin", "B-LOC"), ("is", "O"), ("big", "O")],
]
SPANISH: list[Sentence] = [
    [("Anna", "B-PER"), ("vive", "O"), ("en", "O"), ("Nairobi", "B-LOC"), (".", "O")],
    [("La", "O"), ("ciudad", "O"), ("de", "O"), ("Berlín", "B-LOC"), ("es", "O"), ("grande", "O")],
]


def put(path: Path, data: bytes | str) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def lines(sentences: list[Sentence], *, between: str = " ", lang: str = "") -> str:
    """Return sentences a word a line; lang: before every word, as in WikiANN."""
    before = f"{lang}:" if lang else ""
    return "".join("".join(f"{before}{word}{between}{tag}\n" for word, tag in one) + "\n" for one in sentences)


def parquet(sentences: list[Sentence], tags: str = "ner_tags") -> bytes:
    """Return a table of words and numbers of tags, with their names as the hub's files have them."""
    words = pa.array([[word for word, _ in one] for one in sentences])
    numbers = pa.array([[TAGS.index(tag) for _, tag in one] for one in sentences])
    names = ", ".join(f'"{tag}"' for tag in TAGS)
    features = f'{{"tokens": {{"feature": {{"dtype": "string", "_type": "Value"}}, "_type": "Sequence"}}, "{tags}": '
    features += f'{{"feature": {{"names": [{names}], "_type": "ClassLabel"}}, "_type": "Sequence"}}}}'
    table = pa.table({"tokens": words, tags: numbers})
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": f'{{"info": {{"features": {features}}}}}'}), stream)
    return stream.getvalue()


def archive(files: dict[str, str]) -> bytes:
    """Return a .tar.gz."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as made:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            made.addfile(info, io.BytesIO(text.encode()))
    return stream.getvalue()


def masakhaner(folder: Path, *codes: str) -> Path:
    """Make the repository of MasakhaNER, whose 1.0 has Amharic, with sentences of each code in 2.0."""
    for split in ("train", "dev", "test"):
        put(folder / f"data/amh/{split}.txt", lines(SWAHILI))
        put(folder / f"data/swa/{split}.txt", lines(SWAHILI[:1]))
        for code in codes:
            put(folder / f"MasakhaNER2.0/data/{code}/{split}.txt", lines(SWAHILI))
    put(folder / "MasakhaNER2.0/README.md", "# MasakhaNER 2.0\n")
    return folder


def europarl(folder: Path, *, sentences: int = 2) -> Path:
    """Make the repository of the Europarl corpus, English and Spanish alone."""
    for code, side in (("en", ENGLISH), ("es", SPANISH)):
        put(folder / f"{code}-europarl.test.conll02", lines(side[:sentences], between="\t"))
    put(folder / "README.md", "# Europarl\n")
    return folder


RAW_SWAHILI = lines(SWAHILI, between="\t", lang="sw")
