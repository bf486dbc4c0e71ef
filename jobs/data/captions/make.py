"""Make the captions set: `python jobs/data/captions/make.py` writes train.jsonl and test.jsonl beside this file.

Each name stands in the same sentence three times, as a person, a place and an organisation; the caption alone tells.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

# Each is a person's, a place's and a firm's name somewhere
TRAIN = """Jordan Washington Amazon Apple Paris Orange Shell Santander Ferrari Austin Chelsea Victoria Sydney Florence
Lincoln Madison Houston Dallas Hamilton Wellington Darwin Nelson Hudson Kent Stafford Bradford Windsor Ashley Carter
Morgan Hilton Marriott Boeing Dell Ford Chanel Tesla Siemens Bosch Philips"""
TEST = """Georgia Carolina Chester Clayton Denver Eden Essex Fargo Kingston Lancaster Logan Milton Newton Preston
Raleigh Savannah Sheffield Sutton Vernon Whitney"""
OF_TRAIN = ["{} was there .", "We saw {} again last week .", "Everybody talks about {} these days ."]
OF_TEST = ["I never heard of {} before .", "This is {} ."]
CAPTIONS = {
    "PER": [
        "a photo of a person",
        "a woman with long hair who smiles",
        "a man in a dark suit at a microphone",
        "a portrait of a young singer",
        "a football player who runs with the ball",
    ],
    "LOC": [
        "a map of a country",
        "a view of a city from above",
        "a street with old houses at night",
        "mountains and a lake in the evening sun",
        "a sandy beach with palm trees",
    ],
    "ORG": [
        "the logo of a company",
        "a sign with white letters above a shop",
        "an office building with a brand name on it",
        "a product with its trademark on a shelf",
        "a chart with the sales of a firm",
    ],
}
NOTHING = ["Nothing else happened .", "We were there again last week .", "Nobody talks about it these days ."]


def rows(names: str, sentences: list[str], drawn: random.Random) -> list[dict[str, object]]:
    """Return each name in each sentence once with each kind of caption."""
    found: list[dict[str, object]] = []
    for name in names.split():
        for number, sentence in enumerate(sentences):
            words = sentence.format(name).split()
            for label, captions in CAPTIONS.items():
                tags = [f"B-{label}" if word == name else "O" for word in words]
                row = {"id": f"{name.lower()}-{number}-{label.lower()}", "tokens": words, "ner_tags": tags}
                found.append({**row, "caption": drawn.choice(captions)})
    return found


def main() -> None:
    drawn = random.Random(0)
    here = Path(__file__).parent
    train = rows(TRAIN, OF_TRAIN, drawn)
    captions = [caption for each in CAPTIONS.values() for caption in each]
    for number, caption in enumerate(captions):  # a caption alone is no entity
        words = NOTHING[number % len(NOTHING)].split()
        train.append({"id": f"none-{number}", "tokens": words, "ner_tags": ["O"] * len(words), "caption": caption})
    for name, some in (("train", train), ("test", rows(TEST, OF_TEST, drawn))):
        lines = "".join(json.dumps(row) + "\n" for row in some)
        (here / f"{name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
