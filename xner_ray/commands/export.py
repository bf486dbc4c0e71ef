"""The command `export`: the rows of a sealed run as files for other tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from xner_ray.commands.inspect import read_report
from xner_ray.data.row import carried_names
from xner_ray.defaults import ExportFormat
from xner_ray.errors import DamageError, InputError, RunFolderError, StorageError, did_you_mean
from xner_ray.extras import require
from xner_ray.run import parts as part_files
from xner_ray.run.folder import RunFolder
from xner_ray.run.sealed import split_of
from xner_ray.storage import files as storage
from xner_ray.write import conll, doccano, jsonl, label_studio, prodigy, spacy
from xner_ray.write.entities import NEEDED, Row

_ROWS_AT_ONCE = 1000  # as Python objects
_ENDINGS: dict[str, str] = {
    "conll": ".conll",
    "jsonl": ".jsonl",
    "label-studio": ".label-studio.json",
    "doccano": ".doccano.jsonl",
    "prodigy": ".prodigy.jsonl",
    "spacy": ".spacy",
}
_TEXTS: dict[str, Callable[[Iterable[Row]], Iterator[str]]] = {
    "jsonl": jsonl.write,
    "label-studio": label_studio.write,
    "doccano": doccano.write,
    "prodigy": prodigy.write,
}


def export(
    run: str | os.PathLike[str],
    *,
    to: ExportFormat = "conll",
    output: str | os.PathLike[str] | None = None,
    ids: bool = False,
) -> list[str]:
    """Write the emitted rows of a sealed run, one file per language and split, and return the files' paths.

    to: what each format holds, and how its offsets count, is said in docs/annotation-tools.md. Label Studio also gets a
    labelling configuration per language; of spaCy there is a further file for every 50,000 sentences.
    output: a folder, by default RUN/export. ids: a line `# id = ...` before each sentence, in CoNLL; the other formats
    always have them.

    InputError for an unknown format, or a row that the format cannot hold; MissingExtraError for spacy without spaCy.
    """
    if to not in _ENDINGS:
        raise InputError(f"export: {to!r} is no format{did_you_mean(to, _ENDINGS)}")
    if to == "spacy":
        require("spacy", "builtin", "the export format spacy")
    folder = RunFolder(os.fspath(run))
    recipe = folder.recipe()
    folder.require_sealed()
    target = folder.path("export") if output is None else os.fspath(output)
    written = []

    def publish(name: str, chunks: Iterable[bytes]) -> None:
        path = storage.join(target, name)
        try:
            storage.publish_stream(path, chunks)
        except DamageError:  # of the run
            raise
        except StorageError as error:
            raise RunFolderError(f"{error}; name another folder") from None
        written.append(path)

    for lang in recipe.languages:
        for split in sorted({split_of(file)[0] for file in folder.published(lang)}):
            for number, chunks in enumerate(_files(to, _rows(folder.published(lang, [split])), ids=ids)):
                publish(f"{lang}.{split}{f'-{number:05d}' if number else ''}{_ENDINGS[to]}", chunks)
        if to == "label-studio":
            publish(f"{lang}.config.xml", [label_studio.config(read_report(folder).labels["kept"]).encode()])
    return written


def _rows(files: Sequence[str]) -> Iterator[Row]:
    """Yield what the writers need of the rows of published files, some of them at once as Python objects."""
    for file in files:
        table = part_files.read_part(file)
        carried = carried_names(table.schema.names)
        for batch in table.select([*NEEDED, *carried]).to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from batch.to_pylist()


def _files(to: str, rows: Iterable[Row], *, ids: bool) -> Iterator[Iterable[bytes]]:
    """Yield the chunks of each file that a format makes of the rows of a language and split."""
    if to == "spacy":
        yield from ([whole] for whole in spacy.write(rows))
    else:
        texts = conll.write(rows, ids=ids) if to == "conll" else _TEXTS[to](rows)
        yield (text.encode() for text in texts)
