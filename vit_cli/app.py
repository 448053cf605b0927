"""The command line: options and help. What a command does is imported when it runs, so that help comes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conversion.format_names import WRITABLE_NAMES
from conversion.proof.frameworks import FRAMEWORKS
from vit_cli.feature_kinds import KINDS

DEFAULT_MODEL = "bundled/vit-digits"
DTYPES = ("float16", "bfloat16", "float32")

app = typer.Typer(
    add_completion=False, rich_markup_mode="markdown", context_settings={"help_option_names": ["-h", "--help"]}
)

Revision = Annotated[str, typer.Option(metavar="NAME", help="Branch, tag or commit, for a model on the Hub.")]
Under = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What stands before a model's names, in a file that holds several models."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
Images = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE...", help="Image files, folders of images, or patterns such as 'a*.png'."),
]
Draft = Annotated[
    bool,
    typer.Option(
        "--draft",
        help="Decode JPEG files at a reduced scale: several times as fast with large photos, and nearly the same.",
    ),
]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A field of the config to set; may be repeated.")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"trivit {version('trivit')}")
        raise typer.Exit


def _check_backend(name: str | None) -> str | None:
    if name is not None and name not in FRAMEWORKS:
        raise typer.BadParameter(f"there is no {name!r}; choose one of: {', '.join(FRAMEWORKS)}")
    return name


Backend = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(FRAMEWORKS),
        callback=_check_backend,
        help="The framework to use.  [default: the first that is installed]",
    ),
]


def _check_frameworks(names: str) -> str:
    for name in names.split(","):
        _check_backend(name)
    return names


def _check_head(head: str) -> str:
    if head not in ("all", "rollout") and not head.isdecimal():
        raise typer.BadParameter(f"there is no {head!r}; give the number of a head, all or rollout")
    return head


def _check_threshold(mass: float | None) -> float | None:
    if mass is not None and not 0 < mass <= 1:
        raise typer.BadParameter(f"{mass:g} is no share of the attention; give one above 0 and up to 1, such as 0.6")
    return mass


def _check_mask_ratio(share: float | None) -> float | None:
    if share is not None and not 0 <= share < 1:
        raise typer.BadParameter(f"{share:g} leaves nothing to see or is no share; give one from 0 to below 1")
    return share


def _check_kind(kind: str | None) -> str | None:
    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"there is no {kind!r}; choose one of: {', '.join(KINDS)}")
    return kind


@app.callback(invoke_without_command=True)
def trivit(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Vision Transformers from the command line.

    A MODEL is a folder, a file of weights, a model id on the Hub (`google/vit-base-patch16-224`), or a checkpoint that
    ships with the package (`bundled/vit-digits`).

    Examples:
    - `trivit classify photo.jpg` says what is on a photo

    - `trivit classify photos/ --model google/vit-base-patch16-224 --top-k 3` gives three answers for each in a folder

    - `trivit attention photo.jpg --model dino.pth` draws where the heads of a model look

    - `trivit reconstruct photo.jpg --model facebook/vit-mae-base` draws what a masked autoencoder paints

    - `trivit features photos/ --model facebook/dinov2-base --output photos.npz` writes features for other tools

    - `trivit info google/vit-base-patch16-224` describes a model without loading it

    - `trivit verify ./my-model` proves that a model gives the same in every framework
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def classify(
    images: Images,
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
    draft: Draft = False,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images that go through the model at once.")] = 32,
    settings: Settings = [],  # noqa: B006 - typer copies it
    under: Under = None,
    revision: Revision = "main",
    backend: Backend = None,
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
        draft=draft,
        batch_size=batch_size,
        settings=settings,
        under=under,
        revision=revision,
        backend=backend,
    )
    raise typer.Exit(0 if complete else 1)


@app.command()
def attention(
    images: Images,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="The model to look into.")
    ] = DEFAULT_MODEL,
    head: Annotated[
        str,
        typer.Option(
            metavar="N|all|rollout",
            callback=_check_head,
            help="One head, counted from 0; all of the layer; or attention followed through the layers.",
        ),
    ] = "all",
    layer: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The layer, counted from 0.  [default: the last]")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="MASS",
            callback=_check_threshold,
            help="Show the fewest patches that hold this share of a head's attention to patches, and mask the others.",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The picture, a PNG, PDF or SVG (of the first 24 images).  [default: IMAGE.attention.png, or "
            "attention.png for several images; none with --json]",
        ),
    ] = None,
    as_json: AsJson = False,
    settings: Settings = [],  # noqa: B006 - typer copies it
    under: Under = None,
    revision: Revision = "main",
    backend: Backend = None,
) -> None:
    """Draw where a model looks: the attention of the class token to the patches, by head.

    The pictures are those of the DINO paper (Caron et al. 2021): a row for each image, which comes first, and then its
    heads. The model may be in any format and for any task. Images that cannot be read are named on standard error; the
    others are drawn, and the exit status is 1.

    Examples:
    - `trivit attention photo.jpg --model dino.pth`

    - `trivit attention photo.jpg --model dino.pth --set image_size=480 --threshold 0.6`

    - `trivit attention photos/ --model ./my-model --layer 5 --head 3 --picture head_3.pdf`

    - `trivit attention photos/ --head rollout --json > numbers.json`
    """
    from vit_cli.attention import show_attention

    complete = show_attention(
        images,
        model=model,
        head=head,
        layer=layer,
        threshold=threshold,
        picture=picture,
        as_json=as_json,
        settings=settings,
        under=under,
        revision=revision,
        backend=backend,
    )
    raise typer.Exit(0 if complete else 1)


@app.command()
def reconstruct(
    images: Images,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="The masked autoencoder to ask.")
    ] = "bundled/mae-digits",
    mask_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            callback=_check_mask_ratio,
            help="The share of patches that the model does not see.  [default: as the model was trained]",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the choice of patches.")] = 0,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The picture, a PNG, PDF or SVG (of the first 24 images).  [default: IMAGE.reconstruction.png, or "
            "reconstruction.png for several images; none with --json]",
        ),
    ] = None,
    as_json: AsJson = False,
    settings: Settings = [],  # noqa: B006 - typer copies it
    under: Under = None,
    revision: Revision = "main",
    backend: Backend = None,
) -> None:
    """Draw what a masked autoencoder makes of images of which it sees a few patches.

    The picture is that of the MAE paper (He et al. 2021): each image as it is, what the model saw of it, what it
    painted, and both together. Errors are mean squared ones over the patches that were left out, of pixels from 0 to 1;
    that of the mean is what the mean colour of the patches that were seen would have in their place. Images that cannot
    be read are named on standard error; the others are drawn, and the exit status is 1.

    Examples:
    - `trivit reconstruct digit.png`

    - `trivit reconstruct photo.jpg --model facebook/vit-mae-base --mask-ratio 0.6`

    - `trivit reconstruct photos/ --model mae_pretrain.pth --seed 7 --picture painted.pdf`
    """
    from vit_cli.reconstruct import show_reconstructions

    complete = show_reconstructions(
        images,
        model=model,
        mask_ratio=mask_ratio,
        seed=seed,
        picture=picture,
        as_json=as_json,
        settings=settings,
        under=under,
        revision=revision,
        backend=backend,
    )
    raise typer.Exit(0 if complete else 1)


@app.command()
def features(
    images: Images,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The file to write: an .npz, .safetensors or .parquet."),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="The model to ask, of any family and for any task.")
    ] = DEFAULT_MODEL,
    kind: Annotated[
        str | None,
        typer.Option(
            "--features",
            "-f",
            metavar="|".join(KINDS),
            callback=_check_kind,
            help="The class token, the mean of the patches, each patch, or what the model's pooler makes of them.  "
            "[default: pooled for CLIP and SigLIP, else class, or mean where there is no class token]",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also draw the first three principal components of the patches as colours, as a PNG, PDF or SVG (the "
            "first 24 images).",
        ),
    ] = None,
    draft: Draft = False,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images that go through the model at once.")] = 32,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace FILE, and drop another run for it that was stopped.")
    ] = False,
    settings: Settings = [],  # noqa: B006 - typer copies it
    under: Under = None,
    revision: Revision = "main",
    backend: Backend = None,
) -> None:
    """Write features of images to a file, for search, clustering or a classifier of your own.

    FILE has the `features` in float32, a row for each image, and the names of the images in the same order. They are
    written as they come, so that memory does not depend on the number of images. FILE appears when it is complete;
    until then they are in the folder FILE.unfinished, from which the same command goes on if it was stopped, and no
    other. Images that cannot be read are named on standard error and have no row; the exit status is then 1.

    Examples:
    - `trivit features photos/ --model facebook/dinov2-base --output photos.npz`

    - `trivit features "scans/**/*.png" -m ./my-model -f mean -o scans.parquet --batch-size 64`

    - `trivit features photos/ -m facebook/dinov2-base -f patches -o patches.safetensors --picture components.png`
    """
    from vit_cli.features import write_image_features

    complete = write_image_features(
        images,
        model=model,
        output=output,
        kind=kind,
        picture=picture,
        draft=draft,
        batch_size=batch_size,
        overwrite=overwrite,
        settings=settings,
        under=under,
        revision=revision,
        backend=backend,
    )
    raise typer.Exit(0 if complete else 1)


@app.command()
def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model to describe.")],
    settings: Settings = [],  # noqa: B006 - typer copies it
    under: Under = None,
    as_json: AsJson = False,
    revision: Revision = "main",
) -> None:
    """Describe a model: its config, parameters, labels, preprocessing and files.

    It may be in any format that `trivit convert` reads. Only the headers of the weights are read, and no framework is
    needed. What the files do not tell is assumed, and named.

    Examples:
    - `trivit info bundled/vit-digits`

    - `trivit info ./my-model --json`

    - `trivit info ViT-B_16.npz`
    """
    from vit_cli.info import show_info

    show_info(model, settings=settings, under=under, revision=revision, as_json=as_json)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder, a file or a model on the Hub.")],
    destination: Annotated[
        Path,
        typer.Argument(metavar="DESTINATION", help="A new folder, or a file such as vit.npz for the weights alone."),
    ],
    to: Annotated[str, typer.Option(metavar="FORMAT", help=f"One of {', '.join(WRITABLE_NAMES)}.")] = "transformers",
    dtype: Annotated[
        str | None,
        typer.Option(metavar="|".join(DTYPES), help="Convert the weights.  [default: each as it is]"),
    ] = None,
    settings: Settings = [],  # noqa: B006 - typer copies it
    under: Under = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Read the result back and compare it with the source.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at the destination.")] = False,
    allow_nan: Annotated[bool, typer.Option("--allow-nan", help="Convert weights that hold NaN.")] = False,
    max_shard_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest size of a model.safetensors; above it there are shards.")
    ] = "5GB",
    as_json: AsJson = False,
    revision: Revision = "main",
) -> None:
    """Convert a checkpoint from any format to another, and prove that nothing changed.

    The format of the source is recognised by its content. What its files do not tell, such as the number of attention
    heads in most formats, is assumed, named, and can be set. The result is read back and compared bit for bit before it
    takes its place; then, if a framework is installed, source and result run there and their answers are compared.

    Examples:
    - `trivit convert ViT-B_16.npz vit-base`

    - `trivit convert google/vit-base-patch16-224 vit.npz --to google`

    - `trivit convert dino.pth dino --set num_attention_heads=6 --dtype bfloat16`

    - `trivit convert ./my-model ./for-timm --to timm`
    """
    from vit_cli.convert import show_conversion

    passed = show_conversion(
        source,
        destination,
        to=to,
        dtype=dtype,
        settings=settings,
        under=under,
        verify=verify,
        overwrite=overwrite,
        allow_nan=allow_nan,
        max_shard_size=max_shard_size,
        as_json=as_json,
        revision=revision,
    )
    raise typer.Exit(0 if passed else 1)


@app.command()
def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model to verify.")],
    frameworks: Annotated[
        str,
        typer.Option(
            metavar=",".join(FRAMEWORKS),
            callback=_check_frameworks,
            help="The frameworks to compare; the others are compared with the first that is installed.",
        ),
    ] = ",".join(FRAMEWORKS),
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An image to try beside the random pixels.")
    ] = None,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Compare the loss's gradient for every parameter too.")
    ] = False,
    settings: Settings = [],  # noqa: B006 - typer copies it
    tolerance: Annotated[
        float, typer.Option(min=0.0, metavar="X", help="How far results of up to one may be apart.")
    ] = 1e-5,
    as_json: AsJson = False,
    revision: Revision = "main",
) -> None:
    """Prove that a model gives the same in every framework.

    Each framework that is installed runs it on the same inputs, in a process of its own. Logits, every hidden state and
    every attention map are compared. The exit status is 1 if anything differs by more than the tolerance.

    Examples:
    - `trivit verify bundled/vit-digits`

    - `trivit verify ./my-model --image photo.jpg --gradients`

    - `trivit verify google/vit-base-patch16-224 --frameworks torch,flax --json`

    - `trivit verify ./my-model --set image_size=384`
    """
    from vit_cli.verify import show_verification

    passed = show_verification(
        model,
        frameworks=frameworks.split(","),
        image=image,
        gradients=gradients,
        settings=settings,
        tolerance=tolerance,
        as_json=as_json,
        revision=revision,
    )
    raise typer.Exit(0 if passed else 1)
