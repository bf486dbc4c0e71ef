"""Commands on rows of runs: `evaluate`, `robustness`, `report`, `compare`, `explain`, `rejects`, `export`, `push`."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer
from rich.console import Console

from xner_ray import defaults
from xner_ray.errors import InputError

Run = Annotated[str, typer.Argument(metavar="RUN", help="run folder: a path, s3:// or gs://")]
Samples = Annotated[int, typer.Option(min=0, help="bootstrap resamples behind intervals and p-values; 0: none")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the resamples")]
AsJson = Annotated[bool, typer.Option("--json", help="print machine-readable JSON")]
WIDE = 110  # characters: room for an interval beside each score


def evaluate(
    run: Run,
    as_json: AsJson = False,
    samples: Samples = defaults.SAMPLES,
    seed: Seed = 0,
    by: Annotated[
        Literal["doc", "sentence"] | None,
        typer.Option(help="what a resample draws; by default documents where there are 20, else sentences"),
    ] = None,
) -> None:
    """Score RUN against the gold labels of its input: per label, with intervals, errors by kind and the ceiling."""
    from xner_ray.commands import inspect
    from xner_ray.report.tables import evaluation_tables

    evaluations = inspect.evaluate(run, samples=samples, seed=seed, by=by)
    console = Console()
    if as_json:
        typer.echo(json.dumps(evaluations.to_dict(), indent=1))
    elif evaluations:
        console.print(evaluation_tables(evaluations, wide=console.width >= WIDE))
    else:
        console.print("no row of this run has gold labels (a labelled target side): nothing to score against")


def robustness(
    runs: Annotated[list[str], typer.Argument(metavar="RUN ...", help="finished runs, of any languages and sentences")],
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print the tables in Markdown")] = False,
    doubtful: Annotated[float, typer.Option(help="an entity is doubtful if it scores below this")] = defaults.DOUBTFUL,
    domain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATTERN", help="a domain by its documents' ids, as press=press-*; else by the column `domain`"
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="CODE", help="measure distances from this language, not from the rows' source")
    ] = None,
    samples: Samples = defaults.SAMPLES,
    seed: Seed = 0,
) -> None:
    """Show how RUNs differ between languages: F1, losses and scores by script, family, resources, distance, domain."""
    from xner_ray.commands.across import robustness as command
    from xner_ray.report import robustness as tables

    given = [one.partition("=") for one in domain or ()]
    if wrong := next((one for one in given if not all(one)), None):
        raise InputError(f"--domain {''.join(wrong)}: write it as NAME=PATTERN, as in --domain press=press-*")
    domains = {name: pattern for name, _, pattern in given}
    found = command.robustness(runs, doubtful=doubtful, domains=domains, source=source, samples=samples, seed=seed)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    elif as_markdown:
        typer.echo(tables.markdown(found), nl=False)
    else:
        Console().print(tables.shown(found))


def report(
    run: Run,
    rows: Annotated[
        int, typer.Option(min=1, help="rows that scores, distributions and sentences are taken from")
    ] = defaults.PAGE_ROWS,
) -> None:
    """Write report.html of RUN again, also while RUN is unfinished: one page that needs only a browser."""
    from xner_ray.commands import inspect

    typer.echo(inspect.write_page(run, rows=rows))


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN ...", help="finished runs over the same sentences")],
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print the tables in Markdown")] = False,
    differ: Annotated[int, typer.Option(min=0, help="print this many differing sentences per run and language")] = 0,
    against: Annotated[str | None, typer.Option(metavar="RUN", help="the reference; by default the first run")] = None,
    samples: Samples = defaults.PAIRED_SAMPLES,
    seed: Seed = 0,
    by: Annotated[Literal["doc", "sentence"] | None, typer.Option(help="what a resample draws, as in evaluate")] = None,
) -> None:
    """Compare runs over the same sentences: scores and tests of differences; without gold labels, agreement."""
    from xner_ray.commands import compare as command
    from xner_ray.report.comparison import comparison_tables, markdown, print_sentences

    found = command.compare(runs, against=against, differ=differ, samples=samples, seed=seed, by=by)
    console = Console()
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    elif as_markdown:
        typer.echo(markdown(found), nl=False)
    else:
        print_sentences(console, found)
        console.print(comparison_tables(found, wide=console.width >= WIDE))


def explain(
    run: Run,
    row_id: Annotated[str, typer.Option("--id", help="id of the sentence")],
    lang: Annotated[
        str | None, typer.Option(help="language code; without it every language of the run is shown")
    ] = None,
) -> None:
    """Show one sentence at every stage: links, candidates with scores, which were chosen and why others lost."""
    from xner_ray.commands import inspect

    Console().print(inspect.explain(run, row_id, lang))


def export(
    run: Run,
    to: Annotated[defaults.ExportFormat, typer.Option("--format", help="file format")] = "conll",
    output: Annotated[str | None, typer.Option("--output", "-o", help="folder; by default RUN/export")] = None,
    ids: Annotated[
        bool, typer.Option("--ids", help="conll: '# id = ...' before each sentence, as others have ids")
    ] = False,
) -> None:
    """Write RUN for other tools, a file per language and split: CoNLL, JSON lines, annotation tools, spaCy."""
    from xner_ray.commands import export as command

    for path in command.export(run, to=to, output=output, ids=ids):
        typer.echo(path)


def push(
    run: Run,
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="data set of the hub; made if it is not there")
    ],
    private: Annotated[bool, typer.Option("--private", help="if it is made: for its owner alone")] = False,
    branch: Annotated[str, typer.Option(help="made if it is not there")] = "main",
    licence: Annotated[
        str | None, typer.Option("--license", metavar="NAME", help="of the data, as the hub calls it: cc-by-4.0")
    ] = None,
    with_rejects: Annotated[bool, typer.Option("--rejects", help="rejected rows too")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="also over data that no run of xner_ray made")] = False,
) -> None:
    """Make RUN a data set of the Hugging Face hub, with its card and report. The same command resumes."""
    from xner_ray.commands import push as command

    place = command.push(
        run,
        repository,
        private=private,
        branch=branch,
        licence=licence,
        rejects=with_rejects,
        replace=replace,
        say=typer.echo,
    )
    typer.echo(f"{place} holds data/, README.md (the card), report.json and report.html")


def rejects(
    run: Run,
    reason: Annotated[str | None, typer.Option("--reason", metavar="REASON", help="these rows alone")] = None,
    limit: Annotated[int, typer.Option(min=0, help="rows to show of each reason")] = defaults.REJECTS_SHOWN,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE.jsonl", help="write all of them, to mend and read again"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the rejected rows of RUN by reason, also of an unfinished run: where, what is wrong, what to do."""
    from xner_ray.commands import rejects as command

    found = command.rejects(run, reason=reason, limit=limit, output=output)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    else:
        Console().print(found)
