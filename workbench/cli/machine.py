"""This machine: its speed, what is installed, and what is still to be uploaded."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import OVERRIDES, Allow, Device, Model, Runs, app, read_overrides


@app.command(context_settings=OVERRIDES)
def bench(
    context: typer.Context,
    images: Annotated[int, typer.Option("--images", help="number of test images to restore at each batch size")] = 256,
    runs: Runs = Path("runs"),
    _allow: Allow = None,
    device: Device = "auto",
) -> None:
    """Benchmark the method on this machine: images per second by batch size, overhead, and where the time goes."""
    from workbench.cli.session import open_runtime
    from workbench.core.bounds import MAX_COUNT
    from workbench.core.config import UserError, require_range
    from workbench.experiments.restore import UNIVERSAL
    from workbench.reporting.bench import print_bench
    from workbench.stages.measure.evaluate import Evaluate

    overrides = read_overrides(context)
    if "num_images" in overrides:
        raise UserError("--images sets the number of images: remove --num_images")
    require_range("--images", images, 2, MAX_COUNT)
    cell = Evaluate().replace({**UNIVERSAL, **overrides, "num_images": images})
    with open_runtime(runs, device, 1, False, group=None) as runtime:
        print_bench(cell, runtime)


@app.command(context_settings=OVERRIDES)
def doctor(
    context: typer.Context,
    runs: Runs = Path("runs"),
    verify: Annotated[
        bool,
        typer.Option("--verify", help="check the digest of every file that ships, was downloaded or computed"),
    ] = False,
    model: Model = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="SIDE|HEIGHTxWIDTH",
            help="pixels of the images to restore with --model (default: the model's own)",
            show_default=False,
        ),
    ] = None,
    _allow: Allow = None,
    device: Device = "auto",
) -> None:
    """Print what the workbench finds on this machine: versions, device, threads, data, weights, W&B.

    With --model, print what that model costs here: weights, FLOPs, time and memory of each part and of a restoration,
    with overrides of settings such as --solver.kind=ldps --precision=bf16-true.
    """
    from workbench.core.config import UserError

    overrides = read_overrides(context)
    if model is None and (size is not None or overrides):
        raise UserError(f"--{'size' if size is not None else min(overrides)} is for --model")
    if model is not None:
        from workbench.cli.session import open_runtime
        from workbench.reporting.model_costs import print_model_costs

        with open_runtime(runs, device, 1, False, group=None) as runtime:
            print_model_costs(model, None if size is None else _sides(size), overrides, runtime)
        return
    from workbench.reporting.overview import print_doctor
    from workbench.reporting.verify import verify as verify_files

    print_doctor(runs)
    if verify:
        verify_files(runs, typer.echo)


def _sides(size: str) -> tuple[int, int]:
    """(height, width) of 512 or 321x481. Raises UserError."""
    from workbench.core.bounds import MAX_SIZE
    from workbench.core.config import UserError, require_range

    sides = size.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise UserError(f"--size must be a number of pixels a side, or HEIGHTxWIDTH, got {size!r}")
    height, width = int(sides[0]), int(sides[-1])
    require_range("--size", min(height, width), 8, MAX_SIZE)
    require_range("--size", max(height, width), 8, MAX_SIZE)
    return height, width


@app.command()
def sync(runs: Runs = Path("runs")) -> None:
    """Upload to W&B what was logged offline or without a login."""
    from workbench.tracking.sync import sync as sync_runs
    from workbench.tracking.upload import UploadError

    try:
        sync_runs(runs, typer.echo)
    except UploadError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
