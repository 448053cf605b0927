"""The command line: options and help. What a command does is imported when it runs, so that help comes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vit_cli.backends import BACKENDS

DEFAULT_MODEL = "bundled/vit-digits"

app = typer.Typer(
    add_completion=False, rich_markup_mode="markdown", context_settings={"help_option_names": ["-h", "--help"]}
)

Revision = Annotated[str, typer.Option(metavar="NAME", help="Branch, tag or commit, for a model on the Hub.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"trivit {version('trivit')}")
        raise typer.Exit


def _check_backend(name: str | None) -> str | None:
    if name is not None and name not in BACKENDS:
        raise typer.BadParameter(f"there is no {name!r}; choose one of: {', '.join(BACKENDS)}")
    return name


@app.callback(invoke_without_command=True)
def trivit(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Vision Transformers from the command line.

    A MODEL is a folder, a model id on the Hub (`google/vit-base-patch16-224`), or a checkpoint that ships with the
    package (`bundled/vit-digits`).

    Examples:
    - `trivit classify photo.jpg` says what is on a photo

    - `trivit classify photos/ --model google/vit-base-patch16-224 --top-k 3` gives three answers for each in a folder

    - `trivit info google/vit-base-patch16-224` describes a model without loading it
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def classify(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Image files, folders of images, or patterns such as 'a*.png'."),
    ],
    model: Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help="The model to ask.")] = DEFAULT_MODEL,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=1, metavar="K", help="How many answers for each image.")
    ] = 1,
    as_json: AsJson = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also draw where the model looked, as a PNG, PDF or SVG (the first 24 images)."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images that go through the model at once.")] = 32,
    revision: Revision = "main",
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(BACKENDS),
            callback=_check_backend,
            help="The framework to use.  [default: the first that is installed]",
        ),
    ] = None,
) -> None:
    """Say what is on images.

    Images that cannot be read are named on standard error; the others are classified, and the exit status is 1.

    Examples:
    - `trivit classify photo.jpg`

    - `trivit classify scans/ "more/*.png" --model ./my-model --top-k 3`

    - `trivit classify photos/ --json > answers.json`

    - `trivit classify photos/ --picture where_it_looked.png`
    """
    from vit_cli.classify import classify_images

    complete = classify_images(
        images,
        model=model,
        top_k=top_k,
        as_json=as_json,
        picture=picture,
        batch_size=batch_size,
        revision=revision,
        backend=backend,
    )
    raise typer.Exit(0 if complete else 1)


@app.command()
def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model to describe.")],
    as_json: AsJson = False,
    revision: Revision = "main",
) -> None:
    """Describe a model: its config, parameters, labels, preprocessing and files.

    Only the headers of the weights are read, and no framework is needed.

    Examples:
    - `trivit info bundled/vit-digits`

    - `trivit info ./my-model --json`
    """
    from vit_cli.info import show_info

    show_info(model, revision=revision, as_json=as_json)
