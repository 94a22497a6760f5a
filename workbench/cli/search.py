"""Search with Optuna on this machine, or with W&B on any."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from workbench.cli.options import (
    OVERRIDES,
    Allow,
    BatchSize,
    Device,
    Model,
    Name,
    PresetOption,
    Quality,
    Rerun,
    Runs,
    ValImages,
    app,
    home,
    read_overrides,
)
from workbench.experiments.catalogue import folder_name


@app.command(context_settings=OVERRIDES)
def tune(
    context: typer.Context,
    name: Name,
    trials: Annotated[int, typer.Option("--trials", help="trials per cell, including those already done")] = 60,
    quality: Quality = "psnr",
    cost: Annotated[
        Literal["nfe", "flops", "none"],
        typer.Option(help="the cost to minimize; none: optimize quality alone, with pruning"),
    ] = "nfe",
    sampler: Annotated[Literal["gp", "tpe", "nsga2"], typer.Option(help="Optuna's sampler")] = "gp",
    cost_limit: Annotated[
        float, typer.Option(help="skip settings that cost more than this multiple of the default; inf: skip none")
    ] = 2.0,
    val_images: ValImages = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Optuna storage: sqlite:///FILE, postgresql://..., grpc://HOST:PORT, or a journal file "
            "(default: optuna.journal in the study's folder)"
        ),
    ] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="rerun trials left by dead workers on other hosts")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", help="write each task's setting to this folder as JSON, for --preset-settings", callback=home
        ),
    ] = None,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="only print how to view the trials")] = False,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    model: Model = None,
    _allow: Allow = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    rerun: Rerun = False,
) -> None:
    """Search a study's `search` fields on validation images, then evaluate the best settings on test images."""
    from workbench.cli.session import open_runtime
    from workbench.experiments.objective import Objective
    from workbench.experiments.run import made
    from workbench.experiments.study import load_study
    from workbench.experiments.tune.found import save_settings
    from workbench.experiments.tune.tune import Options, how_to_look
    from workbench.experiments.tune.tune import tune as search
    from workbench.reporting.publish import publish_cached

    overrides, definition = read_overrides(context, model, of_a_study=True), load_study(name)[0]
    definition.preset(preset)
    if dashboard:
        typer.echo(how_to_look(name, preset, overrides, storage, runs))
        return
    if save is not None:
        made(save)
    options = Options(trials, val_images, Objective(quality, cost), sampler, cost_limit, storage, take_over)
    with open_runtime(runs, device, batch_size, rerun, folder_name(name), (preset, "tune")) as runtime:
        tuning = search(name, definition, preset, overrides, options, runtime)
        for path in save_settings(tuning, name, preset, overrides, options.how, save, runtime) if save else ():
            runtime.progress.say(f"settings: {path}")
        publish_cached(name, preset, overrides, runtime)


@app.command(context_settings=OVERRIDES)
def sweep(
    context: typer.Context,
    name: Name,
    method: Annotated[
        Literal["bayes", "random", "grid", "optuna"], typer.Option(help="a W&B method, or its Optuna scheduler")
    ] = "bayes",
    quality: Quality = "psnr",
    cost: Annotated[
        Literal["nfe", "flops", "none"], typer.Option(help="the cost to minimize (--method optuna only)")
    ] = "none",
    trials: Annotated[int, typer.Option("--trials", help="runs per sweep (ignored for a grid)")] = 60,
    points: Annotated[
        int, typer.Option("--points", help="grid points along each range, evenly spaced on its scale")
    ] = 4,
    val_images: ValImages = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="the folder to write to (default: sweeps/ in the study's folder)", show_default=False, callback=home
        ),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="register the sweeps at W&B")] = False,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    model: Model = None,
    _allow: Allow = None,
) -> None:
    """Write one W&B sweep file per cell for a study's `search` fields; `wandb agent` runs the trials."""
    from workbench.core.files import write_whole
    from workbench.experiments.objective import Objective
    from workbench.experiments.run import made, study_folder
    from workbench.experiments.study import load_study
    from workbench.experiments.sweep import Options, as_yaml, register, sweep_configs
    from workbench.stages.runtime import Runtime

    options, overrides = (
        Options(method, Objective(quality, cost), trials, points, val_images),
        read_overrides(context, model, of_a_study=True),
    )
    configs = sweep_configs(name, load_study(name)[0], preset, overrides, options)
    runtime = Runtime(runs)
    if output is None:
        runtime.require_writable()
    folder = made(output or study_folder(runtime, name, preset, overrides) / "sweeps")
    for file, config in configs.items():
        address = register(config) if create else None
        write_whole(folder / file, as_yaml(name, config))
        typer.echo(folder / file)
        if address is not None:
            typer.echo(f"  wandb agent {address}")
            if method == "optuna":
                typer.echo(f"  wandb sweep-scheduler {address}")
