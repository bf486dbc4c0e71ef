"""Evidence of how objects are written: under which keys, in which form, by which offsets, with which tags.

It is bounded, and merges in the order of the file: sets of what occurs, in the order of their first occurrence, and
what the first spans show. So any cut of a file comes to the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from xner_ray.errors import BadRecord, InputError, short
from xner_ray.read.record import File, Raw, Reading, Settled, without_surrogates
from xner_ray.read.shapes.columns import column_forms, is_plain_column
from xner_ray.read.shapes.decide import Chosen, decide
from xner_ray.read.shapes.forms import NUMBERS, OBJECT, PLAIN_SPANS, SURE, TAGS, TEXT, WORD, form_of, is_spans
from xner_ray.read.shapes.keys import NAMES, Keys, choose
from xner_ray.read.shapes.labels import are_tags, named, style_of
from xner_ray.read.shapes.offsets import span_codes
from xner_ray.read.shapes.readings import OWN
from xner_ray.read.shapes.spans import found_spans
from xner_ray.read.shapes.tools import PRODIGY, value_at, view, words_of

MOST = 4096  # different keys, tags, and spans that are looked at
ANSWERS = ("accept", "reject", "ignore")  # of Prodigy
_SHOWN_KEYS = 20


class Shown(NamedTuple):
    """What one span shows. odd: the span and what it cuts out, where it does not fit as characters."""

    code: int
    label: str | int
    odd: str


class ObjectEvidence:
    """What the objects of a file show."""

    def __init__(self, file: File) -> None:
        self.columns = file.columns
        self.rows = 0
        self.forms: dict[tuple[str, str], None] = {}  # key and form
        self.tools: dict[str, None] = {}
        self.tags: dict[str, Counter[str] | None] = {}  # by key; None: more than MOST
        self.highest: dict[str, int] = {}  # number, by key
        self.classes: dict[str, None] = {}  # keys whose numbers ClassLabel names
        self.answers: dict[str, None] = {}  # of Prodigy; "" for any other
        self.ascii: list[Shown] = []  # of the first spans of objects in ASCII alone,
        self.other: list[Shown] = []  # and in others

    def add(self, raw: Raw) -> None:
        data = raw.data
        if type(data) is not dict or "data" in data or "passages" in data:
            try:
                made = view(data)
            except BadRecord:
                return
            data = made.data
            if made.tool:
                self.tools[made.tool] = None
        self.rows += 1
        forms, has_spans, ascii_ = self.forms, False, True
        for key, value in data.items():
            kind = type(value)
            if kind is str:
                if value.isascii():
                    form = TEXT if " " in value else WORD
                else:
                    form, ascii_ = TEXT, False
            elif kind is list or kind is dict:
                sure = kind is list and value and key in SURE and type(value[0]) is str
                form = SURE[key] if sure else form_of(value)
                if form is TAGS or form is NUMBERS:
                    self._count(key, value, form)
                elif form is OBJECT:
                    self._inside(key, value)
                    has_spans = True
                elif form[0] in "{[":
                    has_spans = True
            else:
                form = form_of(value)
            pair = (key, form)
            if pair not in forms and len(forms) < MOST:
                forms[pair] = None
        if "answer" in data:
            self.answers[data["answer"] if data["answer"] in ANSWERS else ""] = None
        if has_spans and len(into := self.ascii if ascii_ else self.other) < MOST:
            self._look(data, into)
        if raw.names and not self.classes:
            self.classes = dict.fromkeys(raw.names)

    def add_batch(self, batch: pa.RecordBatch, names: Mapping[str, Sequence[str]]) -> None:
        """Note what rows of a table show: as `add` of each, but for plain tokens and tags by whole columns.

        names: of numbers, by column.
        """
        if any(not is_plain_column(field.name, field.type) for field in batch.schema):
            for data in batch.to_pylist():
                self.add(Raw(None, 0, data, names=names))
            return
        self.rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            forms = column_forms(name, column)
            for form in forms:
                if len(self.forms) < MOST:
                    self.forms.setdefault((name, form))
            if TAGS in forms:
                counted = pc.value_counts(column.flatten())
                counts = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
                self._count(name, Counter(dict(counts)), TAGS)
            elif NUMBERS in forms:
                self._count(name, [pc.max(column.flatten()).as_py()], NUMBERS)
        if names and not self.classes:
            self.classes = dict.fromkeys(names)

    def _count(self, key: str, value: Iterable[Any], form: str) -> None:
        try:
            if form is NUMBERS:
                self.highest[key] = max(self.highest.get(key, 0), *value)
            elif (counts := self.tags.setdefault(key, Counter())) is not None:
                counts.update(value)
                if len(counts) > MOST:
                    self.tags[key] = None
        except TypeError:  # not all are text, or numbers
            return

    def _inside(self, key: str, value: dict[str, Any]) -> None:
        """Note the forms of what an object inside an object holds."""
        for inner, one in value.items():
            if isinstance(one, (str, list)) and len(self.forms) < MOST:
                self.forms.setdefault((f"{key}.{inner}", form_of(one)))

    def _look(self, data: dict[str, Any], into: list[Shown]) -> None:
        """Note under which readings the spans of an object fit."""
        forms = {key: [form_of(value)] for key, value in data.items()}
        inner = [(key, value) for key, value in data.items() if forms[key][0] is OBJECT]
        forms |= {f"{key}.{name}": [form_of(one)] for key, value in inner for name, one in value.items()}
        keys = choose(forms, self.columns).found
        text = value_at(data, keys["text"]) if "text" in keys else None
        text = without_surrogates(text) if isinstance(text, str) else None
        tokens = words_of(value_at(data, keys["tokens"])) if "tokens" in keys else None
        if "spans" not in keys or (text is None and not tokens):
            return
        try:
            spans = [span for span in found_spans(value_at(data, keys["spans"])) if not span.parts]
        except BadRecord:
            return
        for span, code in zip(spans, span_codes(text, tokens, spans), strict=True):
            odd = "" if code & 1 else f"{short(span.item)} is {short((text or '')[max(span.start, 0) : span.end])}"
            into.append(Shown(code, span.label if isinstance(span.label, (str, int)) else "", odd))
        del into[MOST:]

    def merge(self, later: ObjectEvidence) -> None:
        self.rows += later.rows
        for name in ("forms", "tools", "answers"):
            mine = getattr(self, name)
            for one in getattr(later, name):
                if len(mine) < MOST:
                    mine.setdefault(one)
        for key, counts in later.tags.items():
            sum_ = self.tags.setdefault(key, Counter())
            if sum_ is not None and counts is not None:
                sum_.update(counts)
            if counts is None or sum_ is None or len(sum_) > MOST:
                self.tags[key] = None
        for key, number in later.highest.items():
            self.highest[key] = max(self.highest.get(key, 0), number)
        self.classes = self.classes or later.classes
        self.ascii = (self.ascii + later.ascii)[:MOST]
        self.other = (self.other + later.other)[:MOST]

    def settle(self, file: File) -> Settled:
        if not self.rows:
            return Settled(Reading())
        forms: dict[str, list[str]] = {}
        for key, form in self.forms:
            forms.setdefault(key, []).append(form)
        keys = choose(forms, self.columns)
        if "spans" not in keys.found:
            keys.open.pop("tokens", None)
        self._refuse_open(file, keys, forms)
        found = keys.found
        said: list[str] = []
        reading: dict[str, Any] = {}
        if "tags" in found:
            found.pop("spans", None)
            reading |= self._tags(file, found["tags"], forms, said)
        chosen = self._offsets(file, found, said) if "spans" in found else Chosen()
        reading |= {"offsets": chosen.offsets, "ends": chosen.ends}
        witness = chosen.offsets != "tokens" and "tags" not in found and "text" in found
        if witness and found.get("tokens") != file.columns.tokens:
            found.pop("tokens", None)  # whose cut of the text is no business of the spans
        if "spans" in found:
            reading |= self._labels(file, found["spans"], said)
        prodigy = bool(self.answers) and "" not in self.answers and ("spans" in found or "tags" in found)
        if not prodigy and set(file.stated.answers) != {"accept"}:
            raise InputError(f"{file.path}: input.answers is for Prodigy's files, and no object has its key 'answer'")
        given = dict(file.columns)
        taken = {ours: "" for ours, key in given.items() if ours not in found and key in found.values()}
        keys_found = [(ours, theirs) for ours, theirs in (found | taken).items() if theirs != given[ours]]
        reading["keys"] = tuple(sorted(keys_found))
        shape = next(iter(self.tools), PRODIGY if prodigy else "")
        plain = self._plain(forms.get(found.get("spans", ""), ()))
        if not shape and (reading["keys"] or not plain or Reading(**reading) != Reading()):
            shape = "objects"
        instead = _unlabelled(forms, self.answers if prodigy else (), file.stated.answers)
        said = self._said(found, forms, shape, given) + said
        obeyed = _obeyed(
            found, forms, given, numbers=any(isinstance(one.label, int) for one in self.ascii + self.other)
        )
        return Settled(Reading(**reading, shape=shape), said, instead, obeyed)

    def _plain(self, forms: Iterable[str]) -> bool:
        """Return whether all spans are of forms that versions before read, without texts of their own."""
        spans = {form for form in forms if is_spans(form)}
        return spans <= PLAIN_SPANS and not any(one.code & OWN for one in self.ascii + self.other)

    def _refuse_open(self, file: File, keys: Keys, forms: dict[str, list[str]]) -> None:
        for ours in ("tokens", "text", "tags", "spans"):
            if ours not in keys.open or (ours in ("text", "tokens") and {"text", "tokens"} & keys.found.keys()):
                continue
            candidates = keys.open[ours]
            shown = ", ".join(f"{key!r} ({' or '.join(sorted(forms[key]))})" for key in candidates)
            cures = " or ".join(f"input.columns: {{{ours}: {key}}}" for key in candidates)
            raise InputError(f"{file.path}: {ours} may be under {shown}; say which: {cures}")
        if not {"text", "tokens"} & keys.found.keys():
            stated = [f"input.columns.{ours}" for ours in ("text", "tokens") if file.columns.stated(ours)]
            what = f"no object has the key of {' or '.join(stated)}" if stated else "no key holds text or tokens"
            raise InputError(f"{file.path}: {what}; keys: {_listed(forms)}; set input.columns: {{text: KEY}}")

    def _tags(self, file: File, key: str, forms: dict[str, list[str]], said: list[str]) -> dict[str, Any]:
        numbers, names, where = NUMBERS in forms.get(key, ()), file.stated.names, f"{file.path}: {key}"
        if numbers and (key not in self.classes or names):
            if names is None and TAGS not in forms[key]:
                top = self.highest.get(key, 0)
                raise InputError(
                    f"{file.path}: the tags under {key!r} are numbers from 0 to {top}, and no ClassLabel names them; "
                    f"set input.labels.names to their {top + 1} names in order, as in [O, B-PER, I-PER]"
                )
            if names is None:
                return {}  # where some rows hold text
            named(names, self.highest.get(key, 0), f"the tags under {key!r}", file.path, said)
            return {"names": names, "style": style_of(Counter(names), file.stated.scheme, where, said)}
        if names is not None and TAGS in forms.get(key, ()):
            raise InputError(f"{file.path}: input.labels.names is for numbers, and the tags under {key!r} are text")
        counts = self.tags.get(key)
        texts = {tag: count for tag, count in (counts or {}).items() if isinstance(tag, str)}
        return {"style": style_of(texts, file.stated.scheme, where, said)} if texts else {}

    def _offsets(self, file: File, found: dict[str, str], said: list[str]) -> Chosen:
        shown = self.ascii + self.other
        stated = file.stated
        example = next((one.odd for one in shown if one.odd), "")
        inclusive = (found.get("tokens"), found["spans"]) == ("tokenized_text", "ner")  # GLiNER
        codes = [one.code for one in shown]
        try:
            chosen = decide(
                codes, stated.offsets, stated.ends, tokens="tokens" in found, inclusive=inclusive, example=example
            )
        except ValueError as error:
            raise InputError(f"{file.path}: {error}") from None
        if chosen.said:
            said.append(chosen.said)
        return chosen

    def _labels(self, file: File, key: str, said: list[str]) -> dict[str, Any]:
        labels = [one.label for one in self.ascii + self.other]
        numbers = [label for label in labels if isinstance(label, int)]
        if numbers and (key not in self.classes or file.stated.names):
            if file.stated.names is None and len(numbers) == len(labels):
                raise InputError(
                    f"{file.path}: the labels of the spans under {key!r} are numbers from 0 to {max(numbers)}; "
                    "set input.labels.names to their names in order, as in [PER, LOC, ORG]"
                )
            if file.stated.names is not None:
                named(file.stated.names, max(numbers), f"the labels under {key!r}", file.path, said)
            return {"names": file.stated.names}
        if are_tags({label for label in labels if isinstance(label, str)}):
            said.append("labels of spans are tags (B-, I-), joined into entities")
            return {"tagged": True}
        return {}

    def _said(self, found: dict[str, str], forms: dict[str, list[str]], shape: str, given: dict[str, str]) -> list[str]:
        said = []
        if shape and shape != "objects":
            said.append(f"objects as {shape} writes them")
        for ours in ("text", "tokens", "tags"):
            if found.get(ours, given[ours]) != given[ours]:
                said.append(f"{ours} under {found[ours]!r}")
        if "spans" in found:
            as_ = sorted({form for form in forms.get(found["spans"], ()) if is_spans(form)})
            if found["spans"] != given["spans"] or set(as_) - PLAIN_SPANS:
                said.append(f"spans under {found['spans']!r} as {' or '.join(as_)}")
            left = [key for key, kinds in forms.items() if TAGS in kinds and key in NAMES["tags"]]
            if "tags" not in found and "tokens" in found and left:
                said.append(f"spans under {found['spans']!r} are read, not the tags under {left[0]!r}")
        return said


def _obeyed(
    found: Mapping[str, str], forms: Mapping[str, Sequence[str]], given: Mapping[str, str], *, numbers: bool
) -> frozenset[str]:
    """Return the keys of a recipe that can decide how these objects are read. numbers: whether labels are some."""
    keys = [f"columns.{ours}" for ours, key in given.items() if key in forms] + ["answers"]  # refused by itself
    if "tags" in found:
        keys += ["scheme", "labels.names"]
    elif "spans" in found:
        keys += ["offsets", "ends", *(["labels.names"] if numbers else [])]
    return frozenset(keys)


def _listed(forms: dict[str, list[str]]) -> str:
    shown = [f"{key} ({' or '.join(sorted(found))})" for key, found in forms.items()]
    return ", ".join(shown[:_SHOWN_KEYS]) + (
        f" and {len(shown) - _SHOWN_KEYS} more" if len(shown) > _SHOWN_KEYS else ""
    )


def _unlabelled(forms: dict[str, list[str]], answers: Iterable[str], counting: Sequence[str]) -> str:
    """Return what the objects have instead of labels, and the key that says where these are.

    answers: Prodigy's, if they are its tasks; counting: those that count.
    """
    if answers and not set(answers) & set(counting):
        others = [answer for answer in ANSWERS if answer in answers]
        return (
            f"Prodigy's answers are {' or '.join(others)}, and {' or '.join(counting)} alone counts; where they are "
            f"gold, set input.answers: [{', '.join(dict.fromkeys([*counting, *others]))}]"
        )
    return (
        f"its objects have the keys {_listed(forms)}; labels are tags of tokens, or spans such as "
        "{start, end, label}; say where they are: input.columns: {spans: KEY}, or {tokens: KEY, tags: KEY}"
    )
