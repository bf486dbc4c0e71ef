"""Forms of whole columns of a table, as `forms.form_of` names them value by value."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.read.shapes.forms import EMPTY, NULL, NUMBERS, SURE, TEXT, WORD


def is_plain_column(name: str, kind: pa.DataType) -> bool:
    """Return whether a column is a name, a number, words or tags that are known by its type and name alone."""
    if pa.types.is_list(kind):
        item = kind.value_type
        return (pa.types.is_string(item) and name in SURE) or bool(pa.types.is_integer(item))
    return name not in ("data", "passages", "answer") and bool(pa.types.is_string(kind) or pa.types.is_integer(kind))


def column_forms(name: str, column: pa.Array) -> list[str]:
    """Return the forms that the values of a plain column have."""
    kind, forms = column.type, [NULL] if column.null_count else []
    given = column.drop_null()
    if not len(given):
        return forms
    if pa.types.is_list(kind):
        filled = pc.greater(pc.list_value_length(given), 0)
        forms += [] if pc.all(filled).as_py() else [EMPTY]
        if pc.any(filled).as_py():
            forms.append(SURE[name] if pa.types.is_string(kind.value_type) else NUMBERS)
    elif pa.types.is_string(kind):
        text = pc.or_(pc.match_substring(given, " "), pc.invert(pc.string_is_ascii(given)))
        forms += [form for form, has in ((TEXT, pc.any(text)), (WORD, pc.any(pc.invert(text)))) if has.as_py()]
    else:
        forms.append("int")
    return forms
