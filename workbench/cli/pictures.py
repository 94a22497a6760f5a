"""Pictures of one's own: restored, fetched, looked at."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from workbench.cli.options import (
    OVERRIDES,
    Allow,
    BatchSize,
    Device,
    PresetOption,
    Rerun,
    Runs,
    app,
    home,
    read_overrides,
)
from workbench.encoder_choice import EncoderChoice

data_app = typer.Typer(no_args_is_help=True, help="Obtain images, look at them.")
app.add_typer(data_app, name="data")


@app.command(context_settings=OVERRIDES)
def restore(
    context: typer.Context,
    pictures: Annotated[
        Path,
        typer.Option(
            "--input", help="degraded pictures: a folder, a file, .npy or .npz of several", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", help="the folder for restored images", show_default=False)],
    operator: Annotated[str, typer.Option("--operator", help="the degradation they suffered", show_default=False)],
    severity: Annotated[float, typer.Option("--severity", help="its level in [0, 1]", show_default=False)],
    params: Annotated[
        Path | None,
        typer.Option(
            "--params",
            help=".npz of masks or kernels, for operators that draw them at random: an array for each parameter, "
            "pictures first, in natural order of their names (2.png before 10.png), or as an array `names` in it says; "
            "of length 1: for all pictures",
        ),
    ] = None,
    noise_std: Annotated[
        str | None,
        typer.Option(
            "--noise-std",
            help="standard deviation of the noise on [0, 1] images (default: 0.05); auto: estimated",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        EncoderChoice,
        typer.Option(help="matched: trained here for the operator; universal: it ships; none: the residual alone"),
    ] = EncoderChoice.MATCHED,
    file_format: Annotated[
        Literal["png", "npy"], typer.Option("--format", help="of restored images; png: 8 bits, npy: float32")
    ] = "png",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace files in the output folder")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="record for W&B what is trained on the way")] = False,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    _allow: Allow = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    rerun: Rerun = False,
) -> None:
    """Restore your own degraded images; exit status 3 if all of them contradict the operator."""
    from workbench.cli.session import open_runtime
    from workbench.config import UserError
    from workbench.families import allow_named
    from workbench.places import at_home
    from workbench.restoring import CONTRADICTED, Request, restoring_cell
    from workbench.restoring import restore as restore_pictures
    from workbench.restoring.noise import read_noise_std

    overrides = read_overrides(context)
    allow_named({"degradation.kind": operator})
    if noise_std is not None and "degradation.noise_std" in overrides:
        raise UserError("--noise-std and --degradation.noise_std say the same: give one of them")
    request = Request(
        at_home(pictures),
        at_home(output),
        severity,
        params and at_home(params),
        read_noise_std(noise_std),
        overwrite,
        file_format,
    )
    cell = restoring_cell(operator, encoder, preset, overrides)
    with open_runtime(runs, device, batch_size, rerun, group="restore" if wandb else None) as runtime:
        verdict = restore_pictures(cell, request, runtime)
    if verdict.all_contradict:
        raise typer.Exit(CONTRADICTED)


@data_app.command("fetch")
def data_fetch(kind: Annotated[str, typer.Argument(help="fashion_mnist or cifar10")]) -> None:
    """Obtain a data set, unless it is here."""
    from workbench.data.fetch import fetch

    typer.echo(f"{kind}: {fetch(kind)}")


@data_app.command("show", context_settings=OVERRIDES)
def data_show(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="fashion_mnist, cifar10, image_folder or npy")],
    degradation: Annotated[str, typer.Option(help="which degradation to show at five severities")] = "gaussian_blur",
    output: Annotated[Path, typer.Option(help="the PNG to write", callback=home)] = Path("contact_sheet.png"),
    seed: Annotated[int, typer.Option("--seed", help="keys operators and noise")] = 0,
    _allow: Allow = None,
) -> None:
    """Draw a contact sheet: images, clean and degraded at five severities. `--path=DIR` for your own."""
    from workbench.bounds import MAX_SEED
    from workbench.config import require_range
    from workbench.data.contact_sheet import contact_sheet
    from workbench.families import allow_named
    from workbench.stages.evaluate import Evaluate

    require_range("--seed", seed, 0, MAX_SEED)
    given = read_overrides(context)
    allow_named({"degradation.kind": degradation})
    fields = {key if key.startswith("degradation.") else f"data.{key}": value for key, value in given.items()}
    cell = Evaluate().replace({"data.kind": kind, "degradation.kind": degradation, **fields})
    cell.degradation.check(cell.data.image_shape, gradient=False)
    path = contact_sheet(cell.data, lambda x, s, ids: cell.degradation.measure(x, s, ids, seed).encoder_input(), output)
    typer.echo(f"{kind}: {path}")
