"""The verbs. Only light things are imported here; each verb imports what it needs when it runs."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from workbench.catalogue import questions
from workbench.encoder_choice import EncoderChoice
from workbench.places import at_home

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Severity-adaptive latent diffusion for inverse problems, as studies. "
    "Any field of a study's cell can be overridden: --start.offset_db=3 --solver.kind=no_guidance; "
    "given twice, the last value counts; "
    "--preset-settings=NAME overrides those that tuning found.",
)
UsageError: Any = typer.BadParameter.mro()[2]
"""Click's ClickException, wherever this Typer keeps its Click."""
data_app = typer.Typer(no_args_is_help=True, help="Obtain images, look at them.")
app.add_typer(data_app, name="data")


def _home(path: Path | None) -> Path | None:
    """With ~ as the home folder: shells leave it as it is in --name=~/x."""
    return None if path is None else at_home(path)


OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}

Name = Annotated[str, typer.Argument(help="a study; `study --list` names them", show_default=False)]
PresetOption = Annotated[str, typer.Option("--preset", help="the study's size")]
Runs = Annotated[Path, typer.Option("--runs", envvar="WORKBENCH_RUNS", help="where results are kept", callback=_home)]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 ...; auto: a GPU if there is one")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="images the solver works on at once")]
UseReference = Annotated[
    bool, typer.Option("--reference/--no-reference", help="take cells that ship from the reference results")
]
Rerun = Annotated[
    bool, typer.Option("--rerun", help="recompute cache entries that are damaged, or lack LPIPS now found")
]


@app.command(context_settings=OVERRIDES)
def study(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="which study", show_default=False)] = None,
    list_studies: Annotated[bool, typer.Option("--list", help="name the studies and their questions")] = False,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    device: Device = "auto",
    batch_size: BatchSize = 64,
    rerun: Rerun = False,
    reference: UseReference = True,
    jobs: Annotated[
        int, typer.Option("--jobs", help="stages worked on at once, each in a process with its share of the threads")
    ] = 1,
    cluster: Annotated[
        Literal["slurm", "local"] | None,
        typer.Option(
            help="submit stages as jobs, with --cluster.gpus=1 --cluster.cpus=2 --cluster.minutes=60 "
            "--cluster.memory_gb=8 --cluster.partition=NAME, for one kind of stage --cluster.train_prior.minutes=600 "
            "(local: as processes here, to try it)",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the cells of a study that are missing, then write and print what they say."""
    if list_studies or name is None:
        found = questions()
        width = max(map(len, found)) + 2
        for study_name, question in found.items():
            typer.echo(f"{study_name:<{width}}{question}")
        return
    from workbench.reporting.publish import publish
    from workbench.running import run_study
    from workbench.study import load_study

    overrides = _overrides(context)
    resources = {path: overrides.pop(path) for path in list(overrides) if path.startswith("cluster.")}
    ensure = _ensure(jobs, cluster, device, resources)
    with _runtime(runs, device if cluster is None else "cpu", batch_size, rerun, name, (preset,)) as runtime:
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
    device: Device = "auto",
    batch_size: BatchSize = 64,
    rerun: Rerun = False,
    rungs: Annotated[
        bool, typer.Option("--rungs", help="first on a quarter of the images: a sweep may stop it there")
    ] = False,
) -> None:
    """Run one cell of a study: its base cell with your overrides; those of `wandb agent` win over yours."""
    from workbench.reporting.publish import print_cell
    from workbench.settings import refuse_functions
    from workbench.study import base_cell
    from workbench.sweeps import rungs as parts_of
    from workbench.tracking.agent import agent_run

    with agent_run() as agent:
        given = _overrides(context)
        refuse_functions(agent.config, given, "the sweep")
        own = {path: value for path, value in given.items() if path not in agent.config}
        stage = base_cell(name, preset, own).replace(agent.config)
        stage.check()
        with _runtime(runs, device, batch_size, rerun, None if agent.is_live else name, (preset,)) as runtime:
            for part in parts_of(stage) if rungs else [stage]:
                agent.log(part.ensure(runtime), getattr(part, "split", "test"))
            print_cell(stage, stage.folder(runtime), runtime.progress)


@app.command(context_settings=OVERRIDES)
def tune(
    context: typer.Context,
    name: Name,
    trials: Annotated[int, typer.Option("--trials", help="for each cell in all, those already done included")] = 60,
    quality: Annotated[Literal["psnr", "lpips"], typer.Option(help="what is to be best")] = "psnr",
    cost: Annotated[
        Literal["nfe", "flops", "none"], typer.Option(help="for the least of it; none: one objective, with pruning")
    ] = "nfe",
    sampler: Annotated[Literal["gp", "tpe", "nsga2"], typer.Option(help="Optuna's sampler")] = "gp",
    cost_limit: Annotated[
        float, typer.Option(help="settings of more than so many times the default's cost are left out; inf: none are")
    ] = 2.0,
    val_images: Annotated[
        int | None, typer.Option("--val-images", help="validation images of a trial (default: at most 64)")
    ] = None,
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
            "--save", help="a folder for each task's setting as JSON, to be named by --preset-settings", callback=_home
        ),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="say how to look at the trials, and do no more")
    ] = False,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    device: Device = "auto",
    batch_size: BatchSize = 64,
    rerun: Rerun = False,
) -> None:
    """Search the fields that a study's `search` names on validation images; then evaluate what is best on test."""
    from workbench.goal import Goal
    from workbench.reporting.publish import publish_cached
    from workbench.running import made
    from workbench.study import load_study
    from workbench.tuning.found import save_settings
    from workbench.tuning.tune import Options, how_to_look
    from workbench.tuning.tune import tune as search

    overrides, definition = _overrides(context), load_study(name)[0]
    definition.preset(preset)
    if dashboard:
        typer.echo(how_to_look(name, preset, overrides, storage, runs))
        return
    if save is not None:
        made(save)
    options = Options(trials, val_images, Goal(quality, cost), sampler, cost_limit, storage, take_over)
    with _runtime(runs, device, batch_size, rerun, name, (preset, "tune")) as runtime:
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
    quality: Annotated[Literal["psnr", "lpips"], typer.Option(help="what is to be best")] = "psnr",
    cost: Annotated[
        Literal["nfe", "flops", "none"], typer.Option(help="for the least of it: --method optuna only")
    ] = "none",
    trials: Annotated[int, typer.Option("--trials", help="runs of a sweep, unless it is a grid")] = 60,
    points: Annotated[int, typer.Option("--points", help="of a grid along each range, even on its own scale")] = 4,
    val_images: Annotated[
        int | None, typer.Option("--val-images", help="validation images of a run (default: at most 64)")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="the folder to write to (default: sweeps in the study's)", show_default=False, callback=_home
        ),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="register the sweeps at W&B")] = False,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
) -> None:
    """Write W&B's sweep files, one per cell, of the fields that a study's `search` names; `wandb agent` runs trials."""
    from workbench.files import write_whole
    from workbench.goal import Goal
    from workbench.running import made, study_folder
    from workbench.stages.base import Runtime
    from workbench.study import load_study
    from workbench.sweeps import Options, as_yaml, register, sweep_configs

    options, overrides = Options(method, Goal(quality, cost), trials, points, val_images), _overrides(context)
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
    device: Device = "auto",
    batch_size: BatchSize = 64,
    rerun: Rerun = False,
) -> None:
    """Restore your own degraded images; exit status 3 if all of them contradict the operator."""
    from workbench.config import UserError
    from workbench.places import at_home
    from workbench.restoring import CONTRADICTED, Request, restoring_cell
    from workbench.restoring import restore as restore_pictures
    from workbench.restoring.noise import read_noise_std

    overrides = _overrides(context)
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
    with _runtime(runs, device, batch_size, rerun, group="restore" if wandb else None) as runtime:
        verdict = restore_pictures(cell, request, runtime)
    if verdict.all_contradict:
        raise typer.Exit(CONTRADICTED)


@app.command(context_settings=OVERRIDES)
def report(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="which study", show_default=False)] = None,
    all_studies: Annotated[bool, typer.Option("--all", help="every study with results, and an index of them")] = False,
    preset: PresetOption = "desk",
    runs: Runs = Path("runs"),
    reference: UseReference = True,
) -> None:
    """Draw a study's page again from cached results, or from the reference results that ship; computes nothing."""
    from workbench.config import UserError

    overrides = _overrides(context)
    from workbench.settings import functions_in

    if all_studies == (name is not None) or (all_studies and overrides.keys() - functions_in(overrides)):
        raise UserError("report takes the name of a study, or --all and neither name nor overrides")
    from workbench.reporting.publish import publish, report_all
    from workbench.running import gather_cached

    with _runtime(runs, "cpu", 1, False, group=None) as runtime:
        if name is None:
            report_all(runtime, overrides)
            return
        definition, results, folder = gather_cached(name, preset, overrides, runtime, use_reference=reference)
        publish(definition, results, folder, runtime)


@app.command()
def ship(
    name: Name,
    preset: PresetOption = "full",
    runs: Runs = Path("runs"),
    output: Annotated[
        Path | None,
        typer.Option(help="where references lie (default: data/reference)", show_default=False, callback=_home),
    ] = None,
) -> None:
    """Write a study's results as reference results: small files to commit, from which its page can be drawn."""
    from workbench.reference import reference_root
    from workbench.running import ship as write

    folder = (output or reference_root()) / name / preset
    with _runtime(runs, "cpu", 1, False, group=None) as runtime:
        results, missing = write(name, preset, runtime, folder)
        left_out = f"; {missing} cells are not computed and left out" if missing else ""
        runtime.progress.say(f"{name} ({preset}): {len(results.frame)} rows in {folder}{left_out}")


@app.command()
def compare(
    name: Name,
    preset: PresetOption = "full",
    runs: Runs = Path("runs"),
) -> None:
    """Compare cells computed here with the reference results, image by image: does this machine find the same?"""
    from workbench.reporting.publish import print_comparison

    with _runtime(runs, "cpu", 1, False, group=None, writes=False) as runtime:
        print_comparison(name, preset, runtime)


@app.command(context_settings=OVERRIDES)
def show(context: typer.Context, name: Name, preset: PresetOption = "desk", runs: Runs = Path("runs")) -> None:
    """List a study's cells: what is cached, and an estimate of what is left."""
    from workbench.reporting.overview import print_overview

    with _runtime(runs, "cpu", 1, False, group=None, writes=False) as runtime:
        print_overview(name, preset, _overrides(context), runtime)


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
    output: Annotated[Path, typer.Option(help="the PNG to write", callback=_home)] = Path("contact_sheet.png"),
    seed: Annotated[int, typer.Option("--seed", help="keys operators and noise")] = 0,
) -> None:
    """Draw a contact sheet: images, clean and degraded at five severities. `--path=DIR` for your own."""
    from workbench.bounds import MAX_SEED
    from workbench.config import require_range
    from workbench.data.contact_sheet import contact_sheet
    from workbench.stages.evaluate import Evaluate

    require_range("--seed", seed, 0, MAX_SEED)
    given = _overrides(context)
    fields = {key if key.startswith("degradation.") else f"data.{key}": value for key, value in given.items()}
    cell = Evaluate().replace({"data.kind": kind, "degradation.kind": degradation, **fields})
    cell.degradation.check(cell.data.image_shape, gradient=False)
    path = contact_sheet(cell.data, lambda x, s, ids: cell.degradation.measure(x, s, ids, seed).encoder_input(), output)
    typer.echo(f"{kind}: {path}")


@app.command()
def sync(runs: Runs = Path("runs")) -> None:
    """Upload to W&B what was logged while there was no network, or nobody logged in."""
    from workbench.tracking.sync import sync as sync_runs
    from workbench.tracking.upload import UploadError

    try:
        sync_runs(runs, typer.echo)
    except UploadError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@app.command(context_settings=OVERRIDES)
def bench(
    context: typer.Context,
    images: Annotated[int, typer.Option("--images", help="test images restored at each batch size")] = 256,
    runs: Runs = Path("runs"),
    device: Device = "auto",
) -> None:
    """Time the method here: images a second by batch size, what full batches cost, where the time goes."""
    from workbench.bounds import MAX_COUNT
    from workbench.config import UserError, require_range
    from workbench.reporting.bench import print_bench
    from workbench.restoring import UNIVERSAL
    from workbench.stages.evaluate import Evaluate

    overrides = _overrides(context)
    if "num_images" in overrides:
        raise UserError("--images says how many images are restored: leave --num_images out")
    require_range("--images", images, 2, MAX_COUNT)
    cell = Evaluate().replace({**UNIVERSAL, **overrides, "num_images": images})
    with _runtime(runs, device, 1, False, group=None) as runtime:
        print_bench(cell, runtime)


@app.command()
def doctor(
    runs: Runs = Path("runs"),
    verify: Annotated[
        bool,
        typer.Option("--verify", help="look at every file that ships, was downloaded or was computed: is it whole?"),
    ] = False,
) -> None:
    """Print what the workbench finds here: versions, device, threads, data, weights, W&B."""
    from workbench.reporting.overview import print_doctor
    from workbench.reporting.verify import verify as verify_files

    print_doctor(runs)
    if verify:
        verify_files(runs, typer.echo)


def _overrides(context: typer.Context) -> dict[str, Any]:
    from workbench.config import parse_overrides
    from workbench.settings import with_settings

    return with_settings(parse_overrides(context.args))


def _ensure(jobs: int, cluster: Literal["slurm", "local"] | None, device: str, resources: dict[str, Any]) -> Any:
    """What makes the missing stages: this process, several, or jobs on a cluster."""
    from workbench.config import UserError, require_range
    from workbench.stages.base import ensure_all
    from workbench.stages.cluster import Cluster, ensure_on_cluster
    from workbench.stages.processes import MAX_JOBS, ensure_in_processes

    require_range("--jobs", jobs, 1, MAX_JOBS)
    if cluster is None:
        if resources:
            raise UserError(f"--{min(resources)} is for jobs on a cluster: add --cluster slurm")
        return ensure_all if jobs == 1 else partial(ensure_in_processes, num_processes=jobs)
    if jobs > 1:
        raise UserError("--jobs is for processes here, --cluster for jobs elsewhere: give one of them")
    return partial(ensure_on_cluster, cluster=Cluster(cluster, device, resources))


def _runtime(
    runs: Path,
    device: str,
    batch_size: int,
    rerun: bool,
    group: str | None,
    tags: tuple[str, ...] = (),
    *,
    writes: bool = True,
) -> Any:
    from workbench.runtime import open_runtime

    return open_runtime(runs, device, batch_size, rerun, group, tags, writes=writes)
