"""The command line. Exit status: 0 done, 1 failed, 2 bad recipe or input, 3 more rejects than max_reject_rate.

An interrupt, 130 or 143, is `interrupts.py`'s.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from xner_ray import cli_input, cli_opening, cli_output, defaults, interrupts
from xner_ray.cli_output import WIDE, AsJson, Run, Samples, Seed
from xner_ray.errors import XnerError
from xner_ray.version import __version__

if TYPE_CHECKING:
    from xner_ray.run.counters import Report

app = typer.Typer(
    name="xner-ray",
    help="Project named entities across languages, in batches.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

RecipePath = Annotated[str, typer.Argument(metavar="RECIPE", help="YAML file, its address, or - for standard input")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key, as in --set align.method=argmax")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="discard what the folder holds and start again")]
Show = Annotated[int, typer.Option(min=0, help="print this many projected sentences per language")]
TOO_MANY_REJECTS = 3

BEFORE = (cli_input.look, cli_input.init, cli_input.languages, cli_input.schema)
SCORING = (cli_output.evaluate, cli_output.robustness, cli_output.report, cli_output.compare)
AFTER = (cli_output.explain, cli_output.rejects, cli_output.export, cli_output.push)
for before in BEFORE:
    app.command()(before)


@app.command()
def doctor(
    store: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="also write, read and delete a file there, as a run would")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="project no sentence, start no Ray")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print machine-readable JSON")] = False,
) -> None:
    """Say what works on this machine: packages, extras, GPU, hub, storage, Ray; and what to do about what does not.

    Exit status 1 if something is wrong; what can be done without is a note.
    """
    from xner_ray.commands.start.doctor import doctor as command

    console, found = Console(), []
    colours = {"ok": "green", "note": "yellow", "wrong": "bold red"}
    for finding in command(store=store, quick=quick):
        found.append(finding)
        if not as_json:
            mark = f"[{colours[finding.state]}]{finding.state:<5}[/{colours[finding.state]}]"
            cure = f"\n      [dim]{escape(finding.cure)}[/dim]" if finding.cure else ""
            console.print(f"{mark} [bold]{finding.part}[/bold]: {escape(finding.said)}{cure}", highlight=False)
    if as_json:
        typer.echo(json.dumps([finding.to_dict() for finding in found], indent=1))
    if any(finding.state == "wrong" for finding in found):
        raise typer.Exit(1)


@app.command()
def project(
    recipe: RecipePath,
    run: Run,
    overrides: Overrides = None,
    fresh: Fresh = False,
    retry_rejects: Annotated[
        list[str] | None,
        typer.Option(
            "--retry-rejects",
            metavar="REASON",
            help="try rows rejected for REASON again, as for stage_error; none: give up a retry that was begun",
        ),
    ] = None,
    allow_rejects: Annotated[
        bool, typer.Option("--allow-rejects", help="begin even if more rows are bad than output.max_reject_rate")
    ] = False,
    show: Show = 0,
) -> None:
    """Make the data set of RECIPE in RUN. The same command resumes after any interruption."""
    from xner_ray.commands import project as command

    console = Console()
    report = command.project(
        recipe,
        run,
        overrides=overrides or (),
        fresh=fresh,
        retry_rejects=retry_rejects or (),
        allow_rejects=allow_rejects,
        console=console,
    )
    _show(console, run, report, show)


@app.command()
def rematch(
    run: Run,
    new_run: Annotated[str, typer.Argument(metavar="NEW_RUN", help="a new folder")],
    overrides: Overrides = None,
    fresh: Fresh = False,
    show: Show = 0,
) -> None:
    """Match the sentences of RUN with other settings (match.*, output.*, align.method) into NEW_RUN. Loads no model."""
    from xner_ray.commands import rematch as command

    console = Console()
    report = command.rematch(run, new_run, overrides=overrides or (), fresh=fresh, console=console)
    _show(console, new_run, report, show)


@app.command()
def combine(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN RUN ... NEW_RUN", help="finished runs, then the new folder")
    ],
    method: Annotated[
        Literal["union", "vote"], typer.Option(help="all spans, or those that a vote on each word gives")
    ] = "union",
    weights: Annotated[list[float] | None, typer.Option("--weight", help="one per run, in their order")] = None,
    fresh: Fresh = False,
    show: Show = 0,
) -> None:
    """Join finished runs over the same target text, weighted by their scores, into NEW_RUN. Loads no model."""
    from xner_ray.commands import combine as command

    console = Console()
    *olds, new_run = runs
    report = command.combine(olds, new_run, method=method, weights=weights, fresh=fresh, console=console)
    _show(console, new_run, report, show)


def _show(console: Console, run: str, report: Report, n_sentences: int) -> None:
    """Print the sentences, tables and scores of a finished run. Exit with 3 if too many rows were rejected."""
    from xner_ray.commands import inspect
    from xner_ray.report.tables import print_sentences, run_tables, scores_table

    for lang in report.languages if n_sentences else ():
        print_sentences(console, inspect.sample(run, lang, n_sentences), report.labels["kept"])
    console.print(run_tables(report))
    evaluations = inspect.evaluate(run)
    if evaluations:
        console.print(scores_table(evaluations))
    console.print(
        f"[bold]{escape(run)}[/bold] holds data/, {'rejects/, ' * bool(report.rows['rejected'])}README.md (the dataset "
        "card), report.json and report.html"
    )
    rate, most = report.reject_rate, report.max_reject_rate
    if rate > most:
        console.print(
            f"[red]{report.rows['rejected']} of {report.rows['read']} rows were rejected ({rate:.2%}), more than "
            f"output.max_reject_rate ({most:.2%}); see rejects/ for reasons[/red]"
        )
        raise typer.Exit(TOO_MANY_REJECTS)


@app.command()
def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    assume: Annotated[
        str | None,
        typer.Option(
            help="plan for nodes that are not here: cpus=64,gpus=8,memory_gb=512,nodes=2; for the estimate also "
            "gpu=H100,gpu_hour=2.5,rows=3000000"
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="look at no model, on a hub or in a cache")] = False,
) -> None:
    """Show what RECIPE would do: stages, resources, rows, units, columns. Loads no model, writes nothing."""
    from xner_ray.commands import project as command

    Console().print(command.plan(recipe, overrides=overrides or (), assume=assume, offline=offline))


@app.command()
def status(run: Run, as_json: AsJson = False) -> None:
    """Show the progress of RUN, working or dead, from its folder alone: done, left, rejected, rate, time left, cost."""
    from xner_ray.commands import inspect

    if as_json:
        typer.echo(json.dumps(inspect.run_progress(run), indent=1))
    else:
        Console().print(inspect.status(run))


for scoring in SCORING:
    app.command()(scoring)


@app.command()
def sweep(
    recipe: Annotated[Path, typer.Argument(metavar="SWEEP", help="YAML file of data sets and methods")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="folder of the runs, OUT/DATA/METHOD")],
    overrides: Overrides = None,
    fresh: Fresh = False,
    samples: Samples = defaults.PAIRED_SAMPLES,
    seed: Seed = 0,
) -> None:
    """Run every method on every data set, each model only once where possible, and compare the runs. Resumes."""
    from xner_ray.commands import sweep as command
    from xner_ray.report.comparison import comparison_tables

    console = Console()
    swept = command.sweep(
        recipe, out, overrides=overrides or (), fresh=fresh, samples=samples, seed=seed, console=console
    )
    for data, found in swept.comparisons.items():
        console.print(f"[bold]{escape(data)}[/bold]")
        console.print(comparison_tables(found, swept.verdicts[data], wide=console.width >= WIDE))
    console.print(f"[bold]{escape(out)}[/bold] holds compare.md, compare.json and the runs")
    reports = [(f"{data}/{method}", one) for data, own in swept.reports.items() for method, one in own.items()]
    rejecting = [name for name, one in reports if one.reject_rate > one.max_reject_rate]
    if rejecting:
        console.print(f"[red]more rejects than output.max_reject_rate: {escape(', '.join(rejecting))}[/red]")
        raise typer.Exit(TOO_MANY_REJECTS)


@app.command()
def reproduce(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help="paper: that of Politov et al., arXiv:2501.18750")],
    runs: Annotated[
        str, typer.Argument(metavar="RUNS", help="folder of the runs and the table: a path, s3:// or gs://")
    ],
    masakhaner: Annotated[str, typer.Option(metavar="FOLDER", help="MasakhaNER 2.0 as published, or hf://")] = "",
    wikiann: Annotated[
        str, typer.Option(metavar="FOLDER", help="WikiANN or XTREME's PAN-X as published, or hf://")
    ] = "",
    europarl: Annotated[str, typer.Option(metavar="FOLDER", help="Europarl-NER as published, or hf://")] = "",
    langs: Annotated[
        str, typer.Option(metavar="CODE,CODE", help="languages, by their codes or ours; none: the paper's")
    ] = "",
    methods: Annotated[str, typer.Option(metavar="NAME,NAME", help="as MT,H,N-s,ours; none: all")] = "",
    models: Annotated[
        Literal["paper", "builtin"], typer.Option(help="the paper's, from the hub, on GPUs; or those of the package")
    ] = "paper",
    english: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="given English, a line a sentence: FOLDER/{lang}.txt")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="sentences of each language")] = None,
    overrides: Overrides = None,
    plan: Annotated[bool, typer.Option("--plan", help="show what would be run; write nothing")] = False,
    fresh: Fresh = False,
) -> None:
    """Run the methods of a paper on its data as published, and print our figures beside its own. Resumes."""
    from xner_ray.commands.reproduce import paper as command
    from xner_ray.commands.reproduce.plan import Asked
    from xner_ray.commands.sweep import made

    command.check(paper)
    folders = {"masakhaner": masakhaner, "wikiann": wikiann, "europarl": europarl}
    codes, names = ([one.strip() for one in text.split(",") if one.strip()] for text in (langs, methods))
    asked = Asked(runs, folders, codes, names, models, english, limit, overrides or ())
    console = Console()
    if plan:
        console.print(command.plan(asked))
        return
    found = command.reproduce(asked, made, fresh=fresh, console=console)
    console.print(f"{runs} holds table.md, table.json, table.tsv and the runs", style="bold", markup=False)
    if any(one.rejecting for one in found):
        raise typer.Exit(TOO_MANY_REJECTS)


@app.command()
def train(
    source: Annotated[str, typer.Argument(metavar="RECIPE|RUN", help="YAML file of a student, or a finished run")],
    model_dir: Annotated[str, typer.Argument(metavar="MODEL_DIR", help="folder: a path, s3:// or gs://")],
    overrides: Overrides = None,
    fresh: Fresh = False,
) -> None:
    """Train a student, a token classifier, on projected and gold sentences. The same command resumes."""
    from xner_ray.commands import train as command
    from xner_ray.report.comparison import training_tables

    console = Console()
    report = command.train(source, model_dir, overrides=overrides or (), fresh=fresh, console=console)
    console.print(training_tables(report))
    console.print(
        f"[bold]{escape(model_dir)}[/bold] holds a Hugging Face token classifier, README.md and training.json"
    )


@app.command()
def loop(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="YAML file of a loop, or of a run")],
    runs: Annotated[str, typer.Argument(metavar="RUNS", help="folder of all rounds: runs and students")],
    rounds: Annotated[int | None, typer.Option(min=1, help="most rounds after round 0; by default the file's")] = None,
    overrides: Overrides = None,
    fresh: Fresh = False,
    samples: Samples = defaults.PAIRED_SAMPLES,
    seed: Seed = 0,
) -> None:
    """Project, train students on it, project again with their labels, until nothing is gained. Resumes."""
    from xner_ray.commands import train
    from xner_ray.commands.loop import command
    from xner_ray.commands.loop.report import tables

    console = Console()
    found = command.loop(
        recipe,
        runs,
        train=train.train,
        rounds=rounds,
        overrides=overrides or (),
        fresh=fresh,
        samples=samples,
        seed=seed,
        console=console,
    )
    for table in tables(found):
        console.print(table)
    console.print(f"[bold]{escape(runs)}[/bold] holds loop.md, loop.json and the rounds; keep {escape(found.best_run)}")


@app.command("cross-validate")
def cross_validate(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="YAML file of runs and students")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="folder for runs and predictions")],
    overrides: Overrides = None,
    samples: Samples = defaults.PAIRED_SAMPLES,
    seed: Seed = 0,
) -> None:
    """Train students without each fold of their documents in turn, and compare them on that fold. Resumes."""
    from xner_ray.commands.validation import command
    from xner_ray.report.comparison import comparison_tables

    console = Console()
    found = command.cross_validate(
        experiment, out, overrides=overrides or (), samples=samples, seed=seed, console=console
    )
    console.print(comparison_tables(found.comparison, found.verdicts, wide=console.width >= WIDE))
    console.print(f"[bold]{escape(out)}[/bold] holds compare.md, compare.json, the runs and all predictions")


@app.command()
def adapt(
    recipe: RecipePath,
    model_dir: Annotated[str, typer.Argument(metavar="MODEL_DIR", help="a folder: a path, s3:// or gs://")],
    overrides: Overrides = None,
    fresh: Fresh = False,
) -> None:
    """Train the aligner's encoder further on the sentence pairs of RECIPE, into MODEL_DIR. Resumes."""
    from xner_ray.commands import adapt as command

    report = command.adapt(recipe, model_dir, overrides=overrides or (), fresh=fresh, say=typer.echo)
    layers = report["layers"]
    layer = layers[0] if len(layers) == 1 else layers
    typer.echo(f"{model_dir} holds the encoder; use it with align: {{encoder: {model_dir}, layer: {layer}}}")


for after in AFTER:
    app.command()(after)


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


for registered in app.registered_commands:
    registered.cls = cli_opening.Opening


def main() -> None:
    """Run the command line. An error of ours becomes one message and its exit status; any other is a traceback."""
    if sys.argv[1:2] in (["explain"], ["look"], ["init"]):
        from xner_ray.commands.inspect import spare_pandas

        spare_pandas()
    try:
        app()
    except XnerError as error:
        interrupts.check()  # which may have come out of a library as a fault
        Console(stderr=True).print(f"[bold red]xner-ray:[/bold red] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_status)
