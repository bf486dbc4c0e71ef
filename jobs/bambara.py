"""A Bambara translate-test chain of finished steps -> the input of bambara.yaml.

    python jobs/bambara.py DATA/bambara-chain runs/bambara_input

DATA/bambara-chain has test-bam.txt, the gold sentences (`token TAG`, blank line between sentences);
test-translate-bam-en-preds.txt, their English translations with a tagger's predictions, alike; and
bam-en-alignments.txt with an aligner's links, `N<TAB>i-j i-j ...`: of sentence N, from 0, i is a Bambara and j an
English word. Links of words that are not there are left out and counted.
"""

import sys
from pathlib import Path

LANG, SOURCE = "bam_Latn", "eng_Latn"


def convert(data: Path, output: Path) -> dict[str, int]:
    """Write gold, predictions, and links as English-Bambara; returns how many sentences and links there are."""
    output.mkdir(parents=True, exist_ok=True)
    gold, predicted = (_sentences(data / name) for name in ("test-bam.txt", "test-translate-bam-en-preds.txt"))
    given = dict(_links(data / "bam-en-alignments.txt"))
    if len(gold) != len(predicted) or not given.keys() <= set(range(len(gold))):
        raise SystemExit(f"{data}: {len(gold)} sentences, {len(predicted)} translations, links up to {max(given)}")
    lines, counts = [], {"sentences": len(gold), "links": 0, "links left out": 0}
    for number, (bambara, english) in enumerate(zip(gold, predicted, strict=True)):
        pairs = given.get(number, [])
        inside = [(i, j) for i, j in pairs if i < len(bambara) and j < len(english)]
        counts["links"] += len(inside)
        counts["links left out"] += len(pairs) - len(inside)
        lines.append(" ".join(f"{j}-{i}" for i, j in inside))  # from the side whose entities are known
    named = [[f"# id = {LANG}-{number}", *words] for number, words in enumerate(gold)]
    for name, sentences in ((f"{LANG}.conll", named), (f"{LANG}.{SOURCE}.conll", predicted)):
        (output / name).write_text("".join("\n".join(each) + "\n\n" for each in sentences), encoding="utf-8")
    (output / f"{LANG}.links").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return counts


def _sentences(path: Path) -> list[list[str]]:
    """The lines of each sentence."""
    return [block.split("\n") for block in path.read_text(encoding="utf-8").strip().split("\n\n")]


def _links(path: Path) -> list[tuple[int, list[tuple[int, int]]]]:
    """(sentence, its pairs of words) of every line."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        number, _, pairs = line.partition("\t")
        found.append((int(number), [(int(i), int(j)) for i, j in (pair.split("-") for pair in pairs.split())]))
    return found


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    for what, count in convert(Path(sys.argv[1]), Path(sys.argv[2])).items():
        print(f"{what}: {count}")
