"""Commands on the rows of a run: `explain`, `rejects`, `export`, `push`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from xner_ray import defaults

Run = Annotated[str, typer.Argument(metavar="RUN", help="run folder: a path, s3:// or gs://")]
AsJson = Annotated[bool, typer.Option("--json", help="print machine-readable JSON")]


def explain(
    run: Run,
    row_id: Annotated[str, typer.Option("--id", help="id of the sentence")],
    lang: Annotated[str | None, typer.Option(help="language code; needed where the run has several")] = None,
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
