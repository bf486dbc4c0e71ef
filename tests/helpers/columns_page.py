"""Write docs/columns.md from the schema of the row: each column, its type, what it holds, and when it is null.

python tests/helpers/columns_page.py --write
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

import pyarrow as pa

from xner_ray.data import links, row
from xner_ray.data.row import IMAGES, ROW

PAGE = Path(__file__).parents[2] / "docs" / "columns.md"
_FLOATS = {"float": "float32", "double": "float64"}
_NULL = re.compile(r";? ?null = (.*)")
_LINKS = {  # `data/links.py` describes them as arrays
    "source": "index of the source word (of the bridge, where the row has one), from 0",
    "target": "index of the target word, from 0",
    "forward": "probability over the target words of this source word",
    "backward": "probability over the source words of this target word",
    "cosine": "cosine of the two words' vectors; 1 of links that were given",
    "methods": "sum over the hard methods that link the two: "
    + ", ".join(f"{1 << bit} for {name}" for bit, name in enumerate(links.METHODS)),
}
_HEAD = """\
# Columns of the output

Every file of `RUN/data/` and `RUN/rejects/` has these columns, in this order. One row is one sentence in one language.
Positions of words and characters count from 0, and ends are exclusive. Scores are rounded to 1e-4.

```python
data = datasets.load_dataset("RUN", "swh_Latn")  # the splits train, validation, test that the run has
data["train"].features["ner_tags"]               # a list of ClassLabel: O, then B- and I- of each label
```

`load_dataset` reads the files below `data/` alone. It takes `id`, `tokens` and `ner_tags` as their Hugging Face
features say, and the others as Arrow has them: structs as dicts. The names of `ner_tags` are the same in every file and
language. `never` holds for the rows of `data/`.

| column | type | holds | null |
|---|---|---|---|
"""
_PICTURES = """
Runs whose input has pictures (`input.columns.image`) have these too:

| column | type | holds | null |
|---|---|---|---|
"""
_OWN = """
Behind them come the columns that `input.carry` names, or all others of a table, with the type that they have in the
input. Of JSON lines the others come along as one column `extra`, a JSON text.

## Members

| in | member | type | holds |
|---|---|---|---|
"""
_FOOT = """
## Rejects

`RUN/rejects/<lang>/` holds the rejected rows with the same columns: `status` is `rejected`, `reason` says why in one
word ([what to do](troubleshooting.md#reasons-to-reject)), and `detail` says more. `ner_tags` is null, and so is each
column that no stage had filled before the row was rejected. A language and split without rejected rows has no such
file. `input.format: run` reads them back.

With `output.incomplete: split` sentences with a missing entity stand in files `incomplete-*` beside `train-*`, which
`load_dataset` does not read unless they are named by `data_files`.

Made from `xner_ray/data/row.py` by `python tests/helpers/columns_page.py --write`; a test compares.
"""


def page() -> str:
    """Return the page."""
    said = _descriptions()
    text = _HEAD + "".join(_column(field, said) for field in ROW)
    text += _PICTURES + "".join(_column(field, said) for field in IMAGES)
    of_type: dict[pa.DataType, list[str]] = {}
    for field in (*ROW, *IMAGES):
        if _is_structs(field.type):
            of_type.setdefault(field.type, []).append(field.name)
    text += _OWN
    for kind, names in of_type.items():
        struct = kind.value_type
        for number in range(struct.num_fields):
            member = struct.field(number)
            whose = "_LINKS" if kind == row.ROW.field("links").type else _home(kind)
            what = _LINKS[member.name] if whose == "_LINKS" else said[whose, member.name]
            where = ", ".join(f"`{name}`" for name in names) if number == 0 else ""
            text += f"| {where} | `{member.name}` | {_type(member.type)} | {_escaped(_with_null(what))} |\n"
    return text + _FOOT


def _column(field: pa.Field, said: dict[tuple[str, str], str]) -> str:
    what = said["ROW" if field.name in ROW.names else "IMAGES", field.name]
    null = _NULL.search(what)
    holds = _NULL.sub("", what)
    kind = "list of structs" if _is_structs(field.type) else _type(field.type)
    return f"| `{field.name}` | {kind} | {_escaped(holds)} | {null[1] if null else 'never'} |\n"


def _type(kind: pa.DataType) -> str:
    return f"list of {_type(kind.value_type)}" if pa.types.is_list(kind) else _FLOATS.get(str(kind), str(kind))


def _is_structs(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_struct(kind.value_type))


def _home(kind: pa.DataType) -> str:
    """Return the name of a type in row.py."""
    return next(name for name, value in vars(row).items() if isinstance(value, pa.DataType) and value == kind)


def _with_null(what: str) -> str:
    return _NULL.sub(r" (null: \1)", what)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _descriptions() -> dict[tuple[str, str], str]:
    """Return the comment of each field of row.py by (name of its schema or type, name of the field)."""
    source = Path(row.__file__).read_text("utf-8")
    beside: dict[int, str] = {}
    above: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            into = above if token.line.lstrip().startswith("#") else beside
            into[token.start[0]] = token.string.removeprefix("#").strip()
    lists: dict[str, list[ast.expr]] = {}
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            continue
        name = node.targets[0].id
        lists[name] = next((inner.elts for inner in ast.walk(node.value) if isinstance(inner, ast.List)), [])
        if isinstance(node.value, ast.Call) and not lists[name]:  # a list that has a name of its own
            used = [inner.id for inner in ast.walk(node.value) if isinstance(inner, ast.Name) and inner.id in lists]
            lists[name] = lists[used[0]] if used else []
        todo = list(lists[name])
        while todo:
            item = todo.pop(0)
            inner = item.value if isinstance(item, ast.Starred) else item
            if isinstance(inner, ast.Name):
                todo[:0] = lists[inner.id]
                continue
            lines = [above[item.lineno - 1]] if item.lineno - 1 in above else []
            lines += [beside[item.lineno]] if item.lineno in beside else []
            names = [one.value for one in ast.walk(inner) if isinstance(one, ast.Constant)]
            for one in names if isinstance(item, ast.Starred) else names[:1]:
                found[name, str(one)] = " ".join(line for line in lines if not line.startswith("("))
    return found


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    PAGE.write_text(page(), "utf-8")
