"""What commands share: the app, its options, and how overrides are read."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from workbench.core.places import at_home

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Studies of severity-adaptive latent diffusion for inverse problems. "
    "Override any setting of a study's cell: --start.offset_db=3 --solver.kind=no_guidance; "
    "if a setting is given twice, the last value counts; "
    "a kind MODULE:CLASS is your own class; "
    "--preset-settings=NAME loads settings found by tuning.",
)
UsageError: Any = typer.BadParameter.mro()[2]
"""Click's ClickException, wherever this version of Typer keeps Click."""

AUTOMATIC = 64
"""Images at once with `--batch-size auto`."""
OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}
"""The Click settings of a command that takes overrides."""


def home(path: Path | None) -> Path | None:
    """The path with ~ expanded: shells leave it as it is in --name=~/x."""
    return None if path is None else at_home(path)


def _address(name: str | None) -> str | None:
    """Typing the name of your own study allows its module to be imported."""
    from workbench.experiments.catalogue import address

    return None if name is None else address(name)


def _carry(modules: list[str] | None) -> list[str] | None:
    if modules:
        from workbench.core.families import carry

        carry(*modules)
    return modules


def _batch_size(text: str) -> int:
    if str(text) == "auto":
        return AUTOMATIC
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number, and not auto") from None


STUDY = typer.Argument(
    help="a study (`study --list` lists them), or your own: path/to/mine.py, my_package.mine",
    show_default=False,
    callback=_address,
)
Name = Annotated[str, STUDY]
MaybeName = Annotated[str | None, STUDY]
PresetOption = Annotated[str, typer.Option("--preset", help="the size of the study: smoke, desk, full ...")]
Runs = Annotated[Path, typer.Option("--runs", envvar="WORKBENCH_RUNS", help="the folder of results", callback=home)]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 ...; auto: a GPU if there is one")]
Devices = Annotated[
    int,
    typer.Option(
        "--devices",
        min=1,
        max=1024,
        help="number of GPUs (or, with --device cpu, of processes): training shares every batch (DDP), and evaluation "
        "the images; with --jobs, stages that run at once share the devices",
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        metavar="N|auto",
        parser=_batch_size,
        help=f"number of images restored at once; fewer where memory is short; auto: {AUTOMATIC}",
    ),
]
UseReference = Annotated[
    bool, typer.Option("--reference/--no-reference", help="use reference results for cells that have them")
]
Rerun = Annotated[
    bool,
    typer.Option(
        "--rerun",
        help="recompute cached results that are damaged, or lack LPIPS although its weights are now available",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="MODULE",
        help="allow a study, sweep or settings file to import this module; your overrides allow theirs already",
        callback=_carry,
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FOLDER|HUB_ID[@REVISION]",
        help="use the autoencoder and the prior of a pretrained latent diffusion model in diffusers' format",
        show_default=False,
    ),
]
Quality = Annotated[Literal["psnr", "lpips"], typer.Option("--quality", help="the metric to optimize")]
ValImages = Annotated[
    int | None, typer.Option("--val-images", help="validation images per trial (default: at most 64)")
]


def read_overrides(context: typer.Context, model: str | None = None, *, of_a_study: bool = False) -> dict[str, Any]:
    """The overrides typed, which take precedence over `--preset-settings` and `--model`.

    Modules that they name are allowed.

    Args:
        of_a_study: they are of cells, which need clean images.
    """
    from workbench.core.config import parse_overrides
    from workbench.core.families import allow_named
    from workbench.experiments.settings import with_clean_images, with_model, with_settings

    typed = parse_overrides(context.args)
    allow_named(typed)
    overrides = with_settings(with_model(typed, model))
    return with_clean_images(overrides) if of_a_study and model is not None else overrides
