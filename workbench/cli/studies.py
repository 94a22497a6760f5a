"""Studies and their cells: run, inspect, report, ship."""

import gc
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from workbench.cli.options import (
    OVERRIDES,
    Allow,
    BatchSize,
    Device,
    Devices,
    MaybeName,
    Model,
    Name,
    PresetOption,
    Rerun,
    Runs,
    UseReference,
    app,
    home,
    read_overrides,
)
from workbench.experiments.catalogue import folder_name, questions


@app.command(context_settings=OVERRIDES)
def study(
    context: typer.Context,
    name: MaybeName = None,
    list_studies: Annotated[bool, typer.Option("--list", help="list the studies and their questions")] = False,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    model: Model = None,
    _allow: Allow = None,
    device: Device = "auto",
    devices: Devices = 1,
    batch_size: BatchSize = 64,
    rerun: Rerun = False,
    reference: UseReference = True,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            help="number of stages to run at once, each in a process with its share of the threads "
            "(default: one per thread if that is faster, as with small images on a CPU)",
            show_default=False,
        ),
    ] = None,
    cluster: Annotated[
        Literal["slurm", "local"] | None,
        typer.Option(
            help="submit stages as cluster jobs, with --cluster.gpus=1 --cluster.cpus=2 --cluster.minutes=60 "
            "--cluster.memory_gb=8 --cluster.partition=NAME; for one kind of stage: --cluster.train_prior.minutes=600 "
            "(local: run the jobs as local processes, to try it out)",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the missing cells of a study, then write and print its report."""
    if list_studies or name is None:
        found = questions()
        width = max(map(len, found)) + 2
        for study_name, question in found.items():
            typer.echo(f"{study_name:<{width}}{question}")
        return
    from workbench.cli.session import open_runtime
    from workbench.experiments.run import run_study
    from workbench.experiments.study import load_study
    from workbench.reporting.publish import publish

    overrides = read_overrides(context, model, of_a_study=True)
    resources = {path: overrides.pop(path) for path in list(overrides) if path.startswith("cluster.")}
    ensure = _ensure(jobs, cluster, device, devices, resources)
    device = device if cluster is None else "cpu"
    group = folder_name(name)
    with open_runtime(runs, device, batch_size, rerun, group, (preset,), num_devices=devices) as runtime:
        results, folder = run_study(name, preset, overrides, runtime, use_reference=reference, ensure=ensure)
        if results is None:
            runtime.progress.say(f"{name}: done, in {folder}")
        else:
            publish(load_study(name)[0], results, folder, runtime)


@app.command(context_settings=OVERRIDES)
def run(
    context: typer.Context,
    name: Name,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    model: Model = None,
    _allow: Allow = None,
    device: Device = "auto",
    devices: Devices = 1,
    batch_size: BatchSize = 64,
    rerun: Rerun = False,
    rungs: Annotated[
        bool, typer.Option("--rungs", help="evaluate a quarter of the images first, so that a sweep can stop early")
    ] = False,
) -> None:
    """Run one cell of a study: its base cell with your overrides; overrides from `wandb agent` take precedence."""
    from workbench.cli.session import open_runtime
    from workbench.core.families import refuse_unnamed
    from workbench.experiments.study import base_cell
    from workbench.experiments.sweep import rungs as parts_of
    from workbench.reporting.publish import print_cell
    from workbench.tracking.agent import agent_run

    with agent_run() as agent:
        given = read_overrides(context, model, of_a_study=True)
        refuse_unnamed(agent.config, "the sweep")
        own = {path: value for path, value in given.items() if path not in agent.config}
        stage = base_cell(name, preset, own).replace(agent.config)
        stage.check()
        group = None if agent.is_live else folder_name(name)
        with open_runtime(runs, device, batch_size, rerun, group, (preset,), num_devices=devices) as runtime:
            for part in parts_of(stage) if rungs else [stage]:
                agent.log(part.ensure(runtime), getattr(part, "split", "test"))
            print_cell(stage, stage.folder(runtime), runtime.progress)


@app.command(context_settings=OVERRIDES)
def report(
    context: typer.Context,
    name: MaybeName = None,
    all_studies: Annotated[bool, typer.Option("--all", help="draw every study that has results, and an index")] = False,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    model: Model = None,
    _allow: Allow = None,
    reference: UseReference = True,
) -> None:
    """Draw a study's report again from cached or reference results; computes nothing."""
    gc.set_threshold(1_000_000)  # imports and figures make objects by the million, and hardly any cycles of them
    from workbench.cli.session import open_runtime
    from workbench.core.config import UserError

    overrides = read_overrides(context, model, of_a_study=True)
    if all_studies == (name is not None) or (all_studies and overrides):
        raise UserError("give the name of a study, or --all without a name or overrides")
    from workbench.experiments.run import gather_cached
    from workbench.reporting.publish import publish, report_all

    with open_runtime(runs, "cpu", 1, False, group=None) as runtime:
        if name is None:
            report_all(runtime)
            return
        definition, results, folder = gather_cached(name, preset, overrides, runtime, use_reference=reference)
        publish(definition, results, folder, runtime)


@app.command()
def ship(
    name: Name,
    preset: PresetOption = "full",
    runs: Runs = Path("runs"),
    _allow: Allow = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="the folder of reference results (default: data/reference)", show_default=False, callback=home
        ),
    ] = None,
) -> None:
    """Write a study's results as reference results: small files to commit, from which its report can be drawn."""
    from workbench.cli.session import open_runtime
    from workbench.experiments.reference import reference_root
    from workbench.experiments.run import ship as write

    folder = (output or reference_root()) / folder_name(name) / preset
    with open_runtime(runs, "cpu", 1, False, group=None) as runtime:
        results, missing = write(name, preset, runtime, folder)
        left_out = f"; left out {missing} cells that are not computed" if missing else ""
        runtime.progress.say(f"{name} ({preset}): {len(results.frame)} rows in {folder}{left_out}")


@app.command()
def compare(
    name: Name,
    preset: PresetOption = "full",
    runs: Runs = Path("runs"),
    _allow: Allow = None,
) -> None:
    """Compare cells computed here with the reference results, image by image, to check that this machine agrees."""
    from workbench.cli.session import open_runtime
    from workbench.reporting.publish import print_comparison

    with open_runtime(runs, "cpu", 1, False, group=None, writes=False) as runtime:
        print_comparison(name, preset, runtime)


@app.command(context_settings=OVERRIDES)
def show(
    context: typer.Context,
    name: Name,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    model: Model = None,
    _allow: Allow = None,
) -> None:
    """List a study's cells, what is cached, and the estimated time that is left."""
    from workbench.cli.session import open_runtime
    from workbench.reporting.overview import print_overview

    with open_runtime(runs, "cpu", 1, False, group=None, writes=False) as runtime:
        print_overview(name, preset, read_overrides(context, model, of_a_study=True), runtime)


def _ensure(
    jobs: int | None,
    cluster: Literal["slurm", "local"] | None,
    device: str,
    num_devices: int,
    resources: dict[str, Any],
) -> Any:
    """What runs the missing stages: this process, several processes, or cluster jobs."""
    from workbench.core.config import UserError, require_range
    from workbench.stages.base import ensure_all
    from workbench.stages.execute.cluster import Cluster, ensure_on_cluster
    from workbench.stages.execute.processes import MAX_JOBS, ensure_in_processes, ensure_quickest

    require_range("--jobs", 1 if jobs is None else jobs, 1, MAX_JOBS)
    if cluster is None:
        if resources:
            raise UserError(f"--{min(resources)} applies to cluster jobs only: add --cluster slurm")
        if jobs is None:
            return ensure_quickest
        return ensure_all if jobs == 1 else partial(ensure_in_processes, num_processes=jobs)
    if num_devices > 1:
        raise UserError("--devices is for this machine: jobs use all GPUs that they ask for, --cluster.gpus=N")
    if jobs is not None and jobs > 1:
        raise UserError("--jobs (local processes) and --cluster (cluster jobs) exclude each other: give only one")
    return partial(ensure_on_cluster, cluster=Cluster(cluster, device, resources))
