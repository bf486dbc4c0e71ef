"""Glottolog's and URIEL+'s tables -> the families, resources and syntax of our codes, in xner_ray/data/typology/.

    python jobs/typology.py languages.csv urielplus/database

languages.csv is cldf/languages.csv of glottolog/glottolog-cldf at v5.1; urielplus/database is that folder of the wheel
urielplus 1.3.2. SOURCES.md beside the tables has their licences.
"""

import csv
import json
import sys
import warnings
from pathlib import Path

import numpy as np

from xner_ray.data.languages import LANGUAGES
from xner_ray.data.typology import typology

# Codes of groups of languages, and the member whose line stands for the group
MEMBER = {"zho": "cmn", "est": "ekk", "grn": "gug", "kon": "kng", "srd": "src"}
RESOURCES_OF = {"lvs": "latv1249"}  # Standard Latvian: URIEL+ groups Latvian


def main(languages: Path, uriel: Path) -> None:
    """Write both tables."""
    with languages.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    by_id, by_iso = ({row[key]: row for row in rows if row[key]} for key in ("ID", "ISO639P3code"))
    groups = json.loads((uriel / "urielplus_csvs/resource_languages.json").read_text("utf-8"))
    resources = {glottocode: name.removesuffix("-resource") for name, own in groups.items() for glottocode in own}
    features = np.load(uriel / "original_uriel/features.npz")
    syntactic = [n for n, name in enumerate(features["feats"].tolist()) if name.startswith("S_")]
    values, order = features["data"][:, syntactic], features["langs"].tolist()

    def syntax(iso: str) -> str:
        if iso not in order:
            return "-" * len(syntactic)
        given = values[order.index(iso)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mean of nothing
            means = np.nanmean(np.where(given < 0, np.nan, given), axis=1)
        return "".join("-" if np.isnan(mean) or mean == 0.5 else str(int(mean > 0.5)) for mean in means)

    families, facts = ["code\tglottocode\tfamily"], ["code\tresources\tsyntax"]
    for code, language in LANGUAGES.items():
        iso = language.iso639_3
        row = by_iso[MEMBER.get(iso, iso)]
        family = by_id[row["Family_ID"]]["Name"] if row["Family_ID"] else f"{row['Name']} (isolate)"
        families.append(f"{code}\t{row['ID']}\t{family}")
        best = min((syntax(one) for one in (iso, MEMBER.get(iso, iso))), key=lambda known: known.count("-"))
        group = resources.get(RESOURCES_OF.get(iso, row["ID"]), typology.UNKNOWN)
        facts.append(f"{code}\t{group}\t{best}")
    folder = Path(typology.__file__).parent
    for name, lines in (("glottolog.tsv", families), ("uriel.tsv", facts)):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
