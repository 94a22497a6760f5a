"""Images: restore your own, fetch data sets, show them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from workbench.cli.options import (
    OVERRIDES,
    Allow,
    BatchSize,
    Device,
    Model,
    Rerun,
    Runs,
    app,
    home,
    read_overrides,
)
from workbench.core.encoder_choice import EncoderChoice

NetworksPreset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="a preset of the robustness study, for its networks and settings: photos, or desk if --data.kind is given",
        show_default=False,
    ),
]

data_app = typer.Typer(no_args_is_help=True, help="Obtain data sets and show them.")
app.add_typer(data_app, name="data")


@app.command(context_settings=OVERRIDES)
def restore(
    context: typer.Context,
    pictures: Annotated[
        Path,
        typer.Option(
            "--input",
            help="degraded images: a folder, an image file, or an .npy or .npz file; for mri and ct, arrays of k-space "
            "or sinograms, or fastMRI's .h5 files; for operators on sound, WAV files",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", help="the folder to write restored images to", show_default=False)
    ],
    operator: Annotated[str, typer.Option("--operator", help="the degradation of the images", show_default=False)],
    severity: Annotated[
        float | None,
        typer.Option(
            "--severity",
            help="the level of the degradation in [0, 1]; mri and ct know it from their parameters",
            show_default=False,
        ),
    ] = None,
    params: Annotated[
        Path | None,
        typer.Option(
            "--params",
            help=".npz file of masks or kernels, for operators with random parameters: one array per parameter, images "
            "along the first axis, in natural order of their names (2.png before 10.png) or as listed in an array "
            "`names`; length 1: the same for all images; or a folder with one file per image, of the same name",
        ),
    ] = None,
    noise_std: Annotated[
        str | None,
        typer.Option(
            "--noise-std",
            help="standard deviation of the noise on [0, 1] images (default: 0.05); auto: estimate it",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        EncoderChoice,
        typer.Option(
            help="auto: pretrained if it knows the operator, else quick; matched: train one for the operator; "
            "universal: pretrained; quick: fit one to the operator in a minute; none: use the residual alone"
        ),
    ] = EncoderChoice.AUTO,
    file_format: Annotated[
        Literal["png", "npy"] | None,
        typer.Option(
            "--format",
            help="format of restored images: png (8 bits) or npy (float32); default: png, and for DICOM, NIfTI and "
            "WAV that of the input",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="overwrite files in the output folder")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="log the training of a matched encoder to W&B")] = False,
    preset: NetworksPreset = None,
    runs: Runs = Path("runs"),
    model: Model = None,
    _allow: Allow = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    rerun: Rerun = False,
) -> None:
    """Restore your own degraded images. Exits with status 3 if all of them contradict the operator."""
    from workbench.cli.session import open_runtime
    from workbench.core.config import UserError
    from workbench.core.families import allow_named
    from workbench.core.places import at_home
    from workbench.experiments.restore import CONTRADICTED, Request, restoring_cell
    from workbench.experiments.restore import restore as restore_pictures
    from workbench.experiments.restore.noise import read_noise_std
    from workbench.reporting.overview import announce

    overrides = read_overrides(context, model)
    allow_named({"degradation.kind": operator})
    if noise_std is not None and "degradation.noise_std" in overrides:
        raise UserError("--noise-std and --degradation.noise_std set the same value: give only one")
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
        announce(cell.severity_stage() or cell.estimator_stage(), runtime)
        verdict = restore_pictures(cell, request, runtime)
    if verdict.all_contradict:
        raise typer.Exit(CONTRADICTED)


@app.command(context_settings=OVERRIDES)
def photographs(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="a folder of clean photographs of any size", callback=home)],
    operator: Annotated[str, typer.Option("--operator", help="the degradation to compare on")] = "gaussian_blur",
    images: Annotated[int, typer.Option("--images", help="number of photographs to restore")] = 16,
    tuning: Annotated[int, typer.Option("--tuning", help="number of others, to tune the classical methods on")] = 8,
    sides: Annotated[
        str, typer.Option("--sides", help="squares to compare calibration on, pixels a side")
    ] = "64,128,256",
    encoder: Annotated[EncoderChoice, typer.Option(help="as for restore")] = EncoderChoice.AUTO,
    preset: NetworksPreset = None,
    runs: Runs = Path("runs"),
    model: Model = None,
    _allow: Allow = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    rerun: Rerun = False,
) -> None:
    """Compare whole photographs with tiles, the decoded estimate, TV and the Wiener filter; calibration by size."""
    from workbench.cli.session import open_runtime
    from workbench.core.bounds import MAX_COUNT
    from workbench.core.config import UserError, require_range
    from workbench.core.families import allow_named
    from workbench.experiments.photographs import Plan
    from workbench.experiments.restore import restoring_cell
    from workbench.reporting.photographs import print_photographs

    require_range("--images", images, 2, MAX_COUNT)
    require_range("--tuning", tuning, 1, MAX_COUNT)
    if not all(side.isdecimal() for side in sides.split(",") if sides):
        raise UserError(f"--sides must be whole numbers with commas, got {sides!r}")
    overrides = read_overrides(context, model)
    allow_named({"degradation.kind": operator})
    cell = restoring_cell(operator, encoder, preset, overrides)
    plan = Plan(folder, images, tuning, [int(side) for side in sides.split(",") if side])
    with open_runtime(runs, device, batch_size, rerun, group=None) as runtime:
        print_photographs(cell, plan, runtime)


@data_app.command("fetch")
def data_fetch(
    kind: Annotated[
        str, typer.Argument(help="fashion_mnist, cifar10, tiny_imagenet, imagenette, eurosat, spoken_digits")
    ],
) -> None:
    """Obtain a data set unless it is already present."""
    from workbench.data.fetch import fetch

    typer.echo(f"{kind}: {fetch(kind)}")


@data_app.command("show", context_settings=OVERRIDES)
def data_show(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="tiny_imagenet, image_folder, npy ...")],
    degradation: Annotated[str, typer.Option(help="the degradation to show at five severities")] = "gaussian_blur",
    output: Annotated[Path, typer.Option(help="the PNG file to write", callback=home)] = Path("contact_sheet.png"),
    seed: Annotated[int, typer.Option("--seed", help="seed of operators and noise")] = 0,
    _allow: Allow = None,
) -> None:
    """Draw a contact sheet of images, clean and degraded at five severities. `--path=DIR` for your own images."""
    from workbench.core.bounds import MAX_SEED
    from workbench.core.config import require_range
    from workbench.core.families import allow_named
    from workbench.data.contact_sheet import contact_sheet
    from workbench.stages.measure.evaluate import Evaluate

    require_range("--seed", seed, 0, MAX_SEED)
    given = read_overrides(context)
    allow_named({"degradation.kind": degradation})
    fields = {key if key.startswith("degradation.") else f"data.{key}": value for key, value in given.items()}
    cell = Evaluate().replace({"data.kind": kind, "degradation.kind": degradation, **fields})
    cell.degradation.check(cell.data.image_shape, gradient=False)
    path = contact_sheet(cell.data, lambda x, s, ids: cell.degradation.measure(x, s, ids, seed).encoder_input(), output)
    typer.echo(f"{kind}: {path}")
