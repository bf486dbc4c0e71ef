"""Wrong boundaries of finished runs with gold by kind (`xner_ray/evaluate/boundaries.py`), as a Markdown table.

    python jobs/boundary_errors.py RUN [RUN ...] [--show]

Several runs of one language stand side by side, e.g. two methods of a sweep. --show lists each error below the table.
"""

import argparse
from collections import Counter
from pathlib import Path

from xner_ray.commands import inspect
from xner_ray.evaluate import boundaries
from xner_ray.run.folder import RunFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--show", action="store_true", help="list each error")
    options = parser.parse_args()
    columns: dict[tuple[str, str], Counter[str]] = {}
    shown = []
    for run in options.runs:
        folder = RunFolder(run)
        for error, kind in boundaries.wrong(
            inspect.tables(folder, inspect.read_index(folder).units, boundaries.COLUMNS)
        ):
            columns.setdefault((error.lang, run), Counter())[kind] += 1
            shown.append(
                f"{run} {error.lang} {error.row}, {kind}: {error.source!r} -> {error.projected!r}, gold {error.gold!r}"
            )
    ordered = sorted(columns)
    print("| kind |" + "".join(f" {lang.split('_')[0]}, {Path(run).name} |" for lang, run in ordered))
    print("|---|" + "---:|" * len(ordered))
    for kind in boundaries.KINDS:
        print(f"| {kind} |" + "".join(f" {columns[key][kind]} |" for key in ordered))
    print("| all |" + "".join(f" {columns[key].total()} |" for key in ordered))
    if options.show:
        print()
        print("\n".join(shown))


if __name__ == "__main__":
    main()
