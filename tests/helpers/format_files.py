"""One small file of a given format, and the records in it."""

from pathlib import Path

from xner_ray.read.record import File, Record
from xner_ray.read.records import read_records


def file_of(tmp_path: Path, content: str | bytes, format: str, name: str = "a.x", **options) -> File:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if "columns" in options:
        options["columns"] = options["columns"].names()
    return File(str(path), name, format, options.pop("lang", "eng_Latn"), **options)


def records_of(file: File) -> list[Record]:
    return [record for _, record in read_records(file)]


def conll(tmp_path: Path, content: str | bytes, **options) -> list[Record]:
    return records_of(file_of(tmp_path, content, "conll", **options))
