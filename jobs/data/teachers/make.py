"""Make the teachers set: `python jobs/data/teachers/make.py` writes the sentences and draws the pictures.

A name is one thing wherever it stands, and no sentence tells which; a picture and a caption do, of most sentences. Each
sentence stands there in English, Spanish and Swahili, and belongs to one of two domains.
"""

from __future__ import annotations

import json
import random
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = """Georgia Carolina Chester Clayton Denver Eden Essex Fargo Kingston Lancaster Logan Milton Newton Preston
Raleigh Savannah Sheffield Sutton Vernon Whitney Albany Barclay Benton Camden Clifton Dayton Easton Fulton Gibson Harper
Irving Jasper Kelly Lloyd Monroe Norton"""
LANGUAGES = {"en": "eng_Latn", "es": "spa_Latn", "sw": "swh_Latn"}
SENTENCES = {
    "press": [
        {
            "en": "The paper wrote a long article about {} .",
            "es": "El periódico escribió un largo artículo sobre {} .",
            "sw": "Gazeti liliandika makala ndefu kuhusu {} .",
        },
        {
            "en": "The news of this week is about {} .",
            "es": "Las noticias de esta semana son sobre {} .",
            "sw": "Habari za wiki hii ni kuhusu {} .",
        },
        {
            "en": "Readers asked many questions about {} .",
            "es": "Los lectores hicieron muchas preguntas sobre {} .",
            "sw": "Wasomaji waliuliza maswali mengi kuhusu {} .",
        },
    ],
    "chat": [
        {"en": "look at this , {} !", "es": "mira esto , {} !", "sw": "angalia hii , {} !"},
        {"en": "haha {} again :)", "es": "jaja otra vez {} :)", "sw": "haha {} tena :)"},
        {"en": "sooo much about {} today", "es": "tanto sobre {} hoy", "sw": "mengi sana kuhusu {} leo"},
    ],
}
KINDS = {"PER": ["person"], "LOC": ["flag", "map", "buildings"], "ORG": ["logo"]}
OTHER = ["a tree in a park", "a red car", "some fruit on a table", "a fish", "a cup of tea"]
PICTURES = 12  # of each label; sentences share them
SEED = 19


def draw(rng: random.Random) -> dict[str, list[str]]:
    """Draw the pictures; return their names by label, and under `other` those that show something else."""
    sys.path.insert(0, str(HERE.parents[1] / "tiny_clip"))
    from draw import picture

    found: dict[str, list[str]] = {}
    for label, kinds in {**KINDS, "other": ["thing"]}.items():
        for number in range(PICTURES):
            name = f"{label.lower()}-{number:02d}.png"
            picture(kinds[number % len(kinds)], rng).save(HERE / name, optimize=True)
            found.setdefault(label, []).append(name)
    return found


def exchanged(values: list[str | None], rng: random.Random) -> list[str | None]:
    """Return the values, each that is there in the place of another."""
    circle = [place for place, value in enumerate(values) if value is not None]
    rng.shuffle(circle)
    result = list(values)
    for place, other in zip(circle, circle[1:] + circle[:1], strict=True):
        result[place] = values[other]
    return result


def rows(rng: random.Random, pictures: dict[str, list[str]]) -> list[dict[str, str | None]]:
    """Return sentences as names and places of templates, those of the press first.

    Of twelve sentences one has neither picture nor caption, and those of another show something else.
    """
    captions = {**runpy.run_path(str(HERE.parent / "captions" / "make.py"))["CAPTIONS"], "other": OTHER}
    labels = {name: list(KINDS)[n % 3] for n, name in enumerate(NAMES.split())}
    found: list[dict[str, str | None]] = []
    for domain, sentences in SENTENCES.items():
        for name, label in labels.items():
            for number in range(len(sentences)):
                chance = rng.randrange(12)
                shown = "other" if chance == 1 else label
                row: dict[str, str | None] = {"id": f"{domain}-{name.lower()}-{number}", "name": name, "label": label}
                row |= {"domain": domain, "number": str(number)}
                row["caption"] = None if chance == 0 else rng.choice(captions[shown])
                row["photo"] = None if chance == 0 else rng.choice(pictures[shown])
                found.append(row)
    return found


def main() -> None:
    rng = random.Random(SEED)
    found = rows(rng, draw(rng))
    for row, caption in zip(found, exchanged([row["caption"] for row in found], rng), strict=True):
        row["shuffled"] = caption
    for short in LANGUAGES:
        lines = []
        for row in found:
            words = SENTENCES[str(row["domain"])][int(str(row["number"]))][short].format(row["name"]).split()
            tags = [f"B-{row['label']}" if word == row["name"] else "O" for word in words]
            line: dict[str, object] = {"id": row["id"], "tokens": words, "ner_tags": tags}
            if short == "en":
                line |= {name: row[name] for name in ("caption", "shuffled", "photo")}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        (HERE / f"{short}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
