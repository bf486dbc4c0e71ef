"""MasakhaNER 2.0 sentences joined to their English originals -> the input of masakha_join.yaml.

    python jobs/masakha_join.py DATA/masakha-join-dev runs/masakha_join_input

DATA/masakha-join-dev has X.gold.txt (`token tag`, blank line between sentences) and X.en.tsv, whose column
`masakhaner_sentence` is the sentence's index in the first. Sentences with several English sources are left out.
"""

import csv
import sys
from pathlib import Path

LANGUAGES = {"lug": "lug_Latn", "pcm": "pcm_Latn", "twi": "twi_Latn"}


def convert(data: Path, output: Path) -> dict[str, int]:
    """Write one pair of files a language; returns the number of sentences of each."""
    output.mkdir(parents=True, exist_ok=True)
    counts = {}
    for short, code in LANGUAGES.items():
        sentences = (data / f"{short}.gold.txt").read_text(encoding="utf-8").strip().split("\n\n")
        with (data / f"{short}.en.tsv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
        pairs = [(int(r["masakhaner_sentence"]), r["source_text"]) for r in rows if int(r["distinct_sources"]) == 1]
        gold = [f"# id = {short}-{number}\n{sentences[number]}\n\n" for number, _ in pairs]
        (output / f"{code}.conll").write_text("".join(gold), encoding="utf-8")
        (output / f"{code}.eng_Latn.txt").write_text("".join(f"{text}\n" for _, text in pairs), encoding="utf-8")
        counts[code] = len(pairs)
    return counts


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    for language, n_sentences in convert(Path(sys.argv[1]), Path(sys.argv[2])).items():
        print(f"{language}: {n_sentences} sentences")
