"""Commands that need no run: `look` and `init` at files, `languages`, `schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from xner_ray import defaults
from xner_ray.errors import InputError

Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="files, folders, globs, or addresses")]
Format = Annotated[str | None, typer.Option("--format", help="as input.format")]
Lang = Annotated[str | None, typer.Option("--lang", metavar="CODE", help="as input.lang")]
Keys = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a key, as in --set input.scheme=bmes")
]


def look(
    files: Files,
    format: Format = None,
    lang: Lang = None,
    overrides: Keys = None,
    sentences: Annotated[int, typer.Option(min=0, help="sentences to show")] = defaults.SENTENCES_SHOWN,
    as_json: Annotated[bool, typer.Option("--json", help="print machine-readable JSON")] = False,
) -> None:
    """Show what is in FILEs and how it would be read: labels, languages, sentences, bad rows, and what a recipe says.

    Of large files a part is looked at. Exit status 2 if a file cannot be read in one way: what can be seen is shown.
    """
    from xner_ray.commands.start import look as command

    keys = [*_input_keys(format, lang), *(overrides or ())]
    found = command.look(files, overrides=keys, sentences=sentences)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    else:
        Console().print(found)
    if found.refused:
        raise typer.Exit(InputError.exit_status)


def init(
    files: Files,
    targets: Annotated[
        str, typer.Option("--targets", metavar="CODE,CODE", help="languages to make data for; none: direction test")
    ] = "",
    parallel: Annotated[
        list[str] | None,
        typer.Option("--parallel", metavar="CODE=FILE", help="text that is there, sentence by sentence"),
    ] = None,
    format: Format = None,
    lang: Lang = None,
    overrides: Keys = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="the recipe")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="overwrite the recipe")] = False,
) -> None:
    """Write a commented recipe for FILEs: the input as found, a translator that this machine has, and all defaults."""
    from xner_ray.commands.start import init as command

    beside = [one.partition("=") for one in parallel or ()]
    if wrong := next((code for code, equals, path in beside if not (code and path)), None):
        raise InputError(f"--parallel {wrong}: write it as CODE=FILE, as in --parallel swh_Latn=data/train.sw.txt")
    path, found = command.init(
        files,
        targets=[code.strip() for code in targets.split(",") if code.strip()],
        parallel={code: path for code, _, path in beside},
        overrides=[*_input_keys(format, lang), *(overrides or ())],
        output=output,
        force=force,
    )
    for bad in found.rejects:
        typer.echo(f"{bad.rows:,} of {found.looked_at:,} rows will be rejected: {bad.reason}; {bad.examples[0]}")
    typer.echo(f"{path}: written; look at it, then: xner-ray plan {path}")


def _input_keys(format: str | None, lang: str | None) -> list[str]:
    return [f"input.{key}={value!r}" for key, value in (("format", format), ("lang", lang)) if value is not None]


def languages(
    search: Annotated[str, typer.Option("--search", help="part of a code, name or alias")] = "",
) -> None:
    """List the language codes."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from xner_ray.data.languages import search as find

    found = find(search)
    columns = ("code", "name", "script", "direction", "words", "NLLB", "aliases", "known limits")
    title = f"{len(found)} language codes"
    table = Table(*columns, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for language in found:
        table.add_row(
            language.code,
            language.name,
            language.script,
            language.direction,
            "spaces" if language.spaces else "no spaces",
            "yes" if language.nllb else "no",
            ", ".join(language.aliases),
            language.limits,
        )
    Console().print(table)


def schema(
    kind: Annotated[
        Literal["recipe", "train", "adapt", "sweep", "cross-validate", "loop"],
        typer.Argument(metavar="KIND", help="of file"),
    ] = "recipe",
) -> None:
    """Print the JSON schema of a YAML file, for editors: recipe, or the file of another command."""
    from xner_ray.commands.start.schema import schema as command

    typer.echo(json.dumps(command(kind), indent=1, ensure_ascii=False))
