"""What verbs share: the app, its options, and how what is typed beside them is read."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from workbench.places import at_home

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Severity-adaptive latent diffusion for inverse problems, as studies. "
    "Any field of a study's cell can be overridden: --start.offset_db=3 --solver.kind=no_guidance; "
    "given twice, the last value counts; "
    "a kind MODULE:CLASS is a class of yours; "
    "--preset-settings=NAME overrides those that tuning found.",
)
UsageError: Any = typer.BadParameter.mro()[2]
"""Click's ClickException, wherever this Typer keeps its Click."""

OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}
"""The settings of a verb that takes overrides."""


def home(path: Path | None) -> Path | None:
    """With ~ as the home folder: shells leave it as it is in --name=~/x."""
    return None if path is None else at_home(path)


def _address(name: str | None) -> str | None:
    """Whoever types the name of a study of theirs lets it be imported."""
    from workbench.catalogue import address

    return None if name is None else address(name)


def _carry(modules: list[str] | None) -> list[str] | None:
    if modules:
        from workbench.families import carry

        carry(*modules)
    return modules


STUDY = typer.Argument(
    help="a study (`study --list` names ours), or one of yours: path/to/mine.py, my_package.mine",
    show_default=False,
    callback=_address,
)
Name = Annotated[str, STUDY]
MaybeName = Annotated[str | None, STUDY]
PresetOption = Annotated[str, typer.Option("--preset", help="the study's size")]
Runs = Annotated[Path, typer.Option("--runs", envvar="WORKBENCH_RUNS", help="where results are kept", callback=home)]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 ...; auto: a GPU if there is one")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="images the solver works on at once")]
UseReference = Annotated[
    bool, typer.Option("--reference/--no-reference", help="take cells that ship from the reference results")
]
Rerun = Annotated[
    bool, typer.Option("--rerun", help="recompute cache entries that are damaged, or lack LPIPS now found")
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="MODULE",
        help="a module that a study, sweep or settings file may name; overrides typed here name their own",
        callback=_carry,
        show_default=False,
    ),
]
Quality = Annotated[Literal["psnr", "lpips"], typer.Option("--quality", help="what is to be best")]
ValImages = Annotated[
    int | None, typer.Option("--val-images", help="validation images of a trial (default: at most 64)")
]


def read_overrides(context: typer.Context) -> dict[str, Any]:
    """The overrides that were typed, those of `--preset-settings` below them. What is typed may be imported."""
    from workbench.config import parse_overrides
    from workbench.families import allow_named
    from workbench.settings import with_settings

    typed = parse_overrides(context.args)
    allow_named(typed)
    return with_settings(typed)
