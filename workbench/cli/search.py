"""Search: Optuna's here, W&B's elsewhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from workbench.catalogue import folder_name
from workbench.cli.options import (
    OVERRIDES,
    Allow,
    BatchSize,
    Device,
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


@app.command(context_settings=OVERRIDES)
def tune(
    context: typer.Context,
    name: Name,
    trials: Annotated[int, typer.Option("--trials", help="for each cell in all, those already done included")] = 60,
    quality: Quality = "psnr",
    cost: Annotated[
        Literal["nfe", "flops", "none"], typer.Option(help="for the least of it; none: one objective, with pruning")
    ] = "nfe",
    sampler: Annotated[Literal["gp", "tpe", "nsga2"], typer.Option(help="Optuna's sampler")] = "gp",
    cost_limit: Annotated[
        float, typer.Option(help="settings of more than so many times the default's cost are left out; inf: none are")
    ] = 2.0,
    val_images: ValImages = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Optuna's: sqlite:///FILE, postgresql://..., grpc://HOST:PORT, or a journal file "
            "(default: optuna.journal in the study's folder)"
        ),
    ] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="make the trials again that other hosts' workers left, who are dead")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", help="a folder for each task's setting as JSON, to be named by --preset-settings", callback=home
        ),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="say how to look at the trials, and do no more")
    ] = False,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    _allow: Allow = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    rerun: Rerun = False,
) -> None:
    """Search the fields that a study's `search` names on validation images; then evaluate what is best on test."""
    from workbench.cli.session import open_runtime
    from workbench.objective import Objective
    from workbench.reporting.publish import publish_cached
    from workbench.running import made
    from workbench.study import load_study
    from workbench.tuning.found import save_settings
    from workbench.tuning.tune import Options, how_to_look
    from workbench.tuning.tune import tune as search

    overrides, definition = read_overrides(context), load_study(name)[0]
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
        Literal["bayes", "random", "grid", "optuna"], typer.Option(help="W&B's own, or its Optuna scheduler")
    ] = "bayes",
    quality: Quality = "psnr",
    cost: Annotated[
        Literal["nfe", "flops", "none"], typer.Option(help="for the least of it: --method optuna only")
    ] = "none",
    trials: Annotated[int, typer.Option("--trials", help="runs of a sweep, unless it is a grid")] = 60,
    points: Annotated[int, typer.Option("--points", help="of a grid along each range, even on its own scale")] = 4,
    val_images: ValImages = None,
    output: Annotated[
        Path | None,
        typer.Option(help="the folder to write to (default: sweeps in the study's)", show_default=False, callback=home),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="register the sweeps at W&B")] = False,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    _allow: Allow = None,
) -> None:
    """Write W&B's sweep files, one per cell, of the fields that a study's `search` names; `wandb agent` runs trials."""
    from workbench.files import write_whole
    from workbench.objective import Objective
    from workbench.running import made, study_folder
    from workbench.stages.runtime import Runtime
    from workbench.study import load_study
    from workbench.sweeps import Options, as_yaml, register, sweep_configs

    options, overrides = Options(method, Objective(quality, cost), trials, points, val_images), read_overrides(context)
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
