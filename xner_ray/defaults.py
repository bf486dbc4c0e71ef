"""Defaults that the command line and Python functions share. Without imports of ours, so that `--help` costs none."""

from typing import Literal

SAMPLES = 1000  # bootstrap resamples behind an interval
PAIRED_SAMPLES = 10_000  # behind the test of a difference; its smallest p is 1 / (1 + PAIRED_SAMPLES)
DOUBTFUL = 0.5  # scores below it are doubtful to `robustness`
PAGE_ROWS = 50_000  # rows that the scores, distributions and sentences of report.html are of
REJECTS_SHOWN = 3  # rejected rows of each reason
SENTENCES_SHOWN = 10  # of each path that `look` is given
ExportFormat = Literal["conll", "jsonl", "label-studio", "doccano", "prodigy", "spacy"]
