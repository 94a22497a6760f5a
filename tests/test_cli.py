"""The command line: its verbs work, and bad input is one line on stderr and exit code 2, before anything is trained."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine, Trained, tiny_flags
from PIL import Image
from study_process import assert_nothing_is_left_over, assert_same_results, records, results

from workbench.core.config import parse_overrides
from workbench.core.progress import Silent
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime
from workbench.weights import zoo

ROOT = Path(__file__).parents[1]
ONE_CELL = ("--degradation.kind=gaussian_blur", "--severity_encoder.degradation.kind=gaussian_blur")
"""The cells of one encoder on one degradation: three starts, and two without an encoder."""


# what needs no run


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def test_help_and_list_import_nothing_heavy() -> None:
    script = """
import sys
from workbench.__main__ import main
for arguments in (["--help"], ["study", "--list"], ["study", "--help"], ["data", "--help"], ["restore", "--help"]):
    sys.argv = ["workbench", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code
heavy = {"torch", "numpy", "pandas", "diffusers", "deepinv", "lightning", "wandb", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
    assert "robustness" in done.stdout


def test_module_entry_point_refuses_in_one_line() -> None:
    done = python("-m", "workbench", "study", "nonsense")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown study 'nonsense'; available: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("study", "--help"), ("data", "show", "--help")])
def test_help(arguments: tuple[str, ...], cli: CommandLine) -> None:
    said = cli(*arguments)
    assert "Usage" in said.out + said.err
    assert said.code == (0 if arguments else 2)


@pytest.mark.parametrize("arguments", [("study",), ("study", "--list")])
def test_list_names_every_study_with_its_question(arguments: tuple[str, ...], cli: CommandLine) -> None:
    from workbench.experiments.catalogue import study_names
    from workbench.experiments.study import load_study

    lines = cli(*arguments).out.splitlines()
    assert [line.split()[0] for line in lines] == study_names()
    for name, line in zip(study_names(), lines, strict=True):
        assert line.endswith(load_study(name)[1].splitlines()[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("null", None), ("true", True), ("[16,32]", [16, 32]), ("psld", "psld"), ("", "")],
)
def test_overrides_are_json_or_text(text: str, value: object) -> None:
    from workbench.core.config import parse_overrides

    assert parse_overrides([f"--a.b={text}"]) == {"a.b": value}


def test_doctor(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    said = cli("doctor", "--runs", tmp_path / "runs")
    assert said.code == 0, said.err
    for word in ("torch", "device", "fashion_mnist", "zoo", "LPIPS", "W&B", "writable"):
        assert word in said.out


def test_doctor_says_that_runs_cannot_be_written(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = cli("doctor", "--runs", tmp_path / "file")
    assert said.code == 0, said.err
    assert "not writable" in said.out


# bad words

WORDS = {
    "study": (("study", "nonsense"), "unknown study 'nonsense'; available:"),
    "study_of_run": (("run", "nonsense"), "unknown study 'nonsense'"),
    "study_of_show": (("show", "nonsense"), "unknown study 'nonsense'"),
    "study_of_report": (("report", "nonsense"), "unknown study 'nonsense'"),
    "private_module": (("study", "_trivial"), "unknown study"),
    "preset": (("study", "robustness", "--preset", "nonsense"), "unknown preset 'nonsense'; available: smoke, desk"),
    "preset_of_run": (("run", "robustness", "--preset=nonsense"), "unknown preset 'nonsense'"),
    "kind": (("study", "robustness", "--solver.kind=nonsense"), "unknown kind 'nonsense' for solver; available: ldps"),
    "field": (("study", "robustness", "--nonsense=1"), "unknown field 'nonsense'"),
    "nested_field": (("run", "robustness", "--solver.nonsense=1"), "unknown field 'solver.nonsense'; ldps has:"),
    "deep_field": (("run", "robustness", "--nonsense.a.b=1"), "unknown field 'nonsense.a.b'"),
    "field_of_value": (("run", "robustness", "--seed.a=1"), "seed is a plain value"),
    "type": (("run", "robustness", "--num_images=many"), "num_images"),
    "range": (("run", "robustness", "--num_images=0"), "num_images"),
    "nan": (("run", "robustness", "--start.offset_db=NaN"), "start.offset_db"),
    "null": (("run", "robustness", "--solver=null"), "solver"),
    "too_many_steps": (("run", "robustness", "--sampler.num_steps=1001"), "sampler.num_steps must be at most"),
    "start": (("run", "robustness", "--start.kind=fixed", "--start.timestep=1000"), "start.timestep must be below T"),
    "infinite": (("run", "robustness", "--severity_encoder.learning_rate=Infinity"), "severity_encoder.learning_rate"),
    "kl_channels": (
        ("run", "robustness", "--autoencoder.kind=kl", "--autoencoder.block_out_channels=[24]"),
        "autoencoder.block_out_channels",
    ),
    "prior_channels": (("run", "robustness", "--prior.block_out_channels=[10,20]"), "prior.block_out_channels"),
    "no_prior_channels": (("run", "robustness", "--prior.block_out_channels=[]"), "prior.block_out_channels"),
    "no_value": (("study", "robustness", "--start.offset_db"), "write overrides as --a.b=value"),
    "space": (("study", "robustness", "--start.offset_db", "3"), "write overrides as --a.b=value"),
    "stray_word": (("run", "robustness", "smoke"), "write overrides as --a.b=value"),
    "no_name": (("run", "robustness", "--=3"), "write overrides as --a.b=value"),
    "device": (("study", "robustness", "--device=nonsense"), "device 'nonsense' cannot be used"),
    "device_number": (("study", "robustness", "--device=cuda:99"), "device 'cuda:99' cannot be used"),
    "device_meta": (("study", "robustness", "--device=meta"), "device 'meta' cannot be used"),
    "batch_size": (
        ("study", "robustness", "--batch-size=0"),
        "the batch size must be at least 1 and at most 65536, got",
    ),
    "jobs": (("study", "robustness", "--jobs=0"), "--jobs must be at least 1 and at most 1024, got 0"),
    "jobs_and_cluster": (("study", "robustness", "--jobs=2", "--cluster=local"), "give only one"),
    "resource": (
        ("study", "robustness", "--cluster=local", "--cluster.gpu=1"),
        "unknown field 'cluster.gpu'; Resources",
    ),
    "resource_alone": (("study", "robustness", "--cluster.gpus=1"), "--cluster.gpus applies to cluster jobs only: add"),
    "resource_of": (
        ("study", "robustness", "--cluster=local", "--cluster.a.gpus=1"),
        "--cluster.a: unknown stage; available: ",
    ),
    "fetch": (
        ("data", "fetch", "nonsense"),
        "unknown kind 'nonsense' for data; available: fashion_mnist, cifar10, tiny_imagenet",
    ),
    "fetch_own": (("data", "fetch", "npy"), "npy reads your own files"),
    "show_kind": (("data", "show", "nonsense"), "unknown kind 'nonsense' for data"),
    "show_no_path": (("data", "show", "image_folder"), "data.path"),
    "lpips": (("run", "robustness", "--lpips.backbone=nonsense.pth"), "no such file: nonsense.pth"),
}


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("case", WORDS)
def test_bad_word_is_one_line(case: str, cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    arguments, expected = WORDS[case]
    if arguments[0] in ("study", "run"):
        arguments = (*arguments, f"--runs={tmp_path / 'runs'}")
    if case == "lpips":
        arguments = (*arguments, *tiny_flags(trained.source))
    assert expected in cli.refuses(*arguments)


# bad data


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def pictures(folder: Path, count: int, size: int = 16) -> Path:
    folder.mkdir()
    for i in range(count):
        array = np.random.default_rng(i).integers(0, 256, (size, size), dtype=np.uint8)
        Image.fromarray(array).save(folder / f"{i:03}.png")
    return folder


def unreadable(folder: Path) -> Path:
    pictures(folder, 30)
    (folder / "015.png").write_bytes(b"no image")
    return folder


def cut_picture(folder: Path) -> Path:
    pictures(folder, 30, size=64)
    whole = (folder / "015.png").read_bytes()
    (folder / "015.png").write_bytes(whole[: len(whole) // 2])
    return folder


def cut_array(path: Path) -> Path:
    save(path, GOOD)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def pickled(path: Path) -> Path:
    np.save(path, np.array([{"a": 1}] * 40, dtype=object), allow_pickle=True)
    return path


GOOD = np.random.default_rng(0).random((60, 16, 16)).astype(np.float32)
WITH_NAN = GOOD.copy()
WITH_NAN[3, 2, 1] = np.nan

DATA: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "folder_missing": ("image_folder", lambda p: p, "is not a folder"),
    "folder_empty": ("image_folder", lambda p: pictures(p, 0), "has no images"),
    "folder_is_file": ("image_folder", lambda p: save(p.with_suffix(".npy"), GOOD), "is not a folder"),
    "unreadable": ("image_folder", unreadable, "015.png"),
    "cut_picture": ("image_folder", cut_picture, "015.png"),
    "too_small": ("image_folder", lambda p: pictures(p, 30, size=12), "smaller than size 16"),
    "too_few": ("image_folder", lambda p: pictures(p, 5), "at least 20 are needed"),
    "file_missing": ("npy", lambda p: p, "is not a file"),
    "file_is_folder": ("npy", lambda p: pictures(p, 0), "is not a file"),
    "nan": ("npy", lambda p: save(p.with_suffix(".npy"), WITH_NAN), "contains NaN"),
    "infinite": ("npy", lambda p: save(p.with_suffix(".npy"), np.where(WITH_NAN > 0, GOOD, np.inf)), "floats must be"),
    "range": ("npy", lambda p: save(p.with_suffix(".npy"), 255 * GOOD), "floats must be on [0, 1]"),
    "flat": ("npy", lambda p: save(p.with_suffix(".npy"), GOOD.reshape(60, 256)), "has shape (60, 256)"),
    "channels": ("npy", lambda p: save(p.with_suffix(".npy"), np.stack([GOOD] * 2, -1)), "has shape (60, 16, 16, 2)"),
    "integers": ("npy", lambda p: save(p.with_suffix(".npy"), GOOD.astype(np.int64)), "has dtype int64"),
    "small_array": ("npy", lambda p: save(p.with_suffix(".npy"), GOOD[:, :12, :12]), "smaller than size 16"),
    "few_in_array": ("npy", lambda p: save(p.with_suffix(".npy"), GOOD[:8]), "at least 20 are needed"),
    "none_in_array": ("npy", lambda p: save(p.with_suffix(".npy"), GOOD[:0]), "at least 20 are needed"),
    "cut_array": ("npy", lambda p: cut_array(p.with_suffix(".npy")), "it is truncated or damaged"),
    "pickled": ("npy", lambda p: pickled(p.with_suffix(".npy")), "contains Python objects, which are not loaded"),
}


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("case", DATA)
def test_bad_data_is_one_line(case: str, cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    kind, make, expected = DATA[case]
    path = make(tmp_path / "source")
    flags = [*trained.flags, f"--data.kind={kind}", f"--data.path={path}", f"--runs={tmp_path / 'runs'}"]
    line = cli.refuses("study", "robustness", "--preset=smoke", *flags)
    assert expected in line
    assert str(path) in line


SHAPES = {
    "too_many_images": (("--num_images=21",), "asked for 21 test images, but the split has 20"),
    "size_of_autoencoder": (("--data.size=14",), "the autoencoder needs sizes divisible by 4, but these are 14 x 14"),
    "size_of_prior": (("--data.size=12",), "the prior needs latents divisible by 2, but these are 3 x 3"),
}


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("verb", ["study", "run"])
@pytest.mark.parametrize("case", SHAPES)
def test_data_that_do_not_fit_are_one_line(
    case: str, verb: str, cli: CommandLine, trained: Trained, tmp_path: Path
) -> None:
    flags, expected = SHAPES[case]
    arguments = (verb, "robustness", "--preset=smoke", *trained.flags, *flags, f"--runs={tmp_path / 'runs'}")
    assert expected in cli.refuses(*arguments)


# bad weights


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def remove_weights(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.unlink()


def cut_weights(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1000])


def empty_weights(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.write_bytes(b"")


def cut_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text()[:40])


def other_shape(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name in ("block_out_channels", "encoder_block_out_channels", "decoder_block_out_channels"):
        if name in config:
            config[name] = [2 * width for width in config[name]]
    path.write_text(json.dumps(config))


def other_class(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": "VQModel"}))


def missing_key(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        tensors.pop(sorted(tensors)[0])
        save_file(tensors, path, metadata={"format": "pt"})


DAMAGES = (
    remove_folder, remove_weights, cut_weights, empty_weights, cut_config, other_shape, other_class, missing_key
)  # fmt: skip


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", ["autoencoder", "prior"])
def test_damaged_weights_are_one_line(
    part: str, damage: Callable[[Path], None], cli: CommandLine, trained: Trained, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(trained.autoencoder if part == "autoencoder" else trained.prior, folder)
    damage(folder if part == "autoencoder" else folder / "unet")
    flags = [*trained.flags, f"--{part}.source={folder}", f"--runs={tmp_path / 'runs'}"]
    assert str(folder) in cli.refuses("study", "robustness", "--preset=smoke", *flags)


@pytest.mark.usefixtures("no_training")
def test_prior_without_scheduler_is_one_line(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(trained.prior, folder)
    shutil.rmtree(folder / "scheduler")
    flags = [*trained.flags, f"--prior.source={folder}", f"--runs={tmp_path / 'runs'}"]
    assert "scheduler" in cli.refuses("run", "robustness", "--preset=smoke", *flags)


@pytest.mark.usefixtures("no_training")
def test_prior_with_a_scheduler_of_another_kind(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    """One that samples in another way is used, and said to be; one of another training is refused by name."""
    folder = tmp_path / "weights"
    shutil.copytree(trained.prior, folder)
    path = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"_class_name": "ScoreSdeVeScheduler"}))
    flags = [*trained.flags, f"--prior.source={folder}", f"--runs={tmp_path / 'runs'}"]
    assert "is for a ScoreSdeVeScheduler" in cli.refuses("run", "robustness", "--preset=smoke", *flags)
    path.write_text(json.dumps(config | {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"}))
    said: list[str] = []
    progress = Silent()
    progress.say = said.append  # type: ignore[method-assign]
    cell = Evaluate().replace(parse_overrides(flags[:-1]))
    cell.prior_stage().load(Runtime(trained.runs, progress=progress))
    assert sum('DDIMScheduler; how it samples (timestep_spacing="trailing") is not' in s for s in said) == 1


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--autoencoder.latent_channels=4",), "is for 2-channel latents, but the autoencoder's have 4"),
        (("--data.channels=3",), "the autoencoder needs 1-channel images, but these have 3"),
    ],
)
def test_given_weights_that_do_not_fit_are_one_line(
    flags: tuple[str, ...], expected: str, cli: CommandLine, trained: Trained, tmp_path: Path
) -> None:
    given = [f"--prior.source={trained.prior}"]
    if "--data.channels=3" in flags:
        given.append(f"--autoencoder.source={trained.autoencoder}")
    arguments = ("study", "robustness", *trained.flags, *given, *flags, f"--runs={tmp_path / 'runs'}")
    assert expected in cli.refuses(*arguments)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("damage", [remove_weights, cut_weights, other_shape])
@pytest.mark.parametrize("part", ["autoencoder", "unet"])
def test_damaged_zoo_is_one_line(
    part: str,
    damage: Callable[[Path], None],
    cli: CommandLine,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from workbench.core.config import parse_overrides
    from workbench.stages.measure.evaluate import Evaluate

    flags = [*trained.flags, "--autoencoder.source=auto", "--prior.source=auto"]
    cell = Evaluate().replace(parse_overrides(flags))
    folder = tmp_path / "zoo" / "tiny"
    shutil.copytree(trained.autoencoder, folder / "autoencoder")
    for name in ("unet", "scheduler"):
        shutil.copytree(trained.prior / name, folder / name)
    recipe = {**cell.prior_stage().autoencoder_stage().recipe(), **cell.prior_stage().recipe()}
    (folder / zoo.RECIPE).write_text(json.dumps(recipe))
    monkeypatch.setenv("WORKBENCH_ZOO", str(tmp_path / "zoo"))
    assert cell.autoencoder_stage().shipped() == cell.prior_stage().shipped() == folder, "the zoo is not found at all"
    damage(folder / part)
    line = cli.refuses("study", "robustness", "--preset=smoke", *flags, f"--runs={tmp_path / 'runs'}")
    assert str(folder) in line


# the runs folder


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("verb", ["study", "run", "report"])
def test_runs_folder_that_cannot_be_written_is_one_line(
    verb: str, cli: CommandLine, trained: Trained, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    line = cli.refuses(verb, "robustness", *trained.flags, f"--runs={tmp_path / 'file'}")
    assert line.startswith(f"the runs folder {tmp_path / 'file'} is not writable")


@pytest.mark.usefixtures("no_training")
def test_cached_cells_are_not_computed_again(cli: CommandLine, trained: Trained) -> None:
    for cached in (1, 5):
        said = cli("study", "robustness", "--preset=smoke", *trained.flags, *ONE_CELL, f"--runs={trained.runs}")
        assert said.code == 0, said.err
        assert f"5 cells, {cached} cached" in said.out
        assert ("... restoring" in said.out) == (cached == 1)


@pytest.mark.usefixtures("no_training")
def test_a_cluster_where_there_is_none_is_one_line(
    cli: CommandLine, trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    line = cli.refuses("study", "robustness", "--preset=smoke", *trained.flags, "--cluster=slurm")
    assert line == "there is no SLURM here (no sbatch on the PATH): run locally with --jobs N"


def test_several_processes_find_what_one_does(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    found = []
    for number in (1, 2):
        own = trained.copy(tmp_path / str(number))
        words = ("study", "robustness", "--preset=smoke", *own.flags, *ONE_CELL, f"--runs={own.runs}", "--device=cpu")
        said = cli(*words, f"--jobs={number}")
        assert said.code == 0, said.err
        assert said.out.count("... restoring") == 4, "what the processes do is told here"
        found.append(results(own.runs))
    assert_same_results(*found)
    assert {record["process"] for record in records(own.runs)} - {os.getpid()}
    assert_nothing_is_left_over(own.runs)


CORRUPT = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "missing": Path.unlink,
    "provenance": lambda path: (path.parent / "provenance.json").write_text("{"),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_corrupt_cell_is_named_and_rerun_recomputes_it(
    case: str, cli: CommandLine, trained: Trained, tmp_path: Path
) -> None:
    mine = trained.copy(tmp_path)
    (rows,) = (mine.runs / "stages" / "evaluate").glob("*/per_image.parquet")
    before = rows.read_bytes()
    CORRUPT[case](rows)
    arguments = ("run", "robustness", "--preset=smoke", *mine.flags, f"--runs={mine.runs}")
    line = cli.refuses(*arguments)
    assert str(rows.parent) in line
    assert "--rerun" in line
    said = cli(*arguments, "--rerun")
    assert said.code == 0, said.err
    assert "recomputing" in said.out
    assert len(rows.read_bytes()) == pytest.approx(len(before), abs=200)
    assert cli(*arguments).code == 0


def test_corrupt_networks_are_named_and_rerun_recomputes_them(
    cli: CommandLine, trained: Trained, tmp_path: Path
) -> None:
    mine = trained.copy(tmp_path)
    cut_weights(mine.prior / "unet")
    (weights,) = (mine.runs / "stages" / "train_severity").glob("*/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    # another cell, so that the networks are read
    arguments = ("run", "robustness", "--preset=smoke", *mine.flags, "--num_images=4", f"--runs={mine.runs}")
    line = cli.refuses(*arguments)
    assert "--rerun" in line
    assert any(str(folder) in line for folder in (mine.prior, weights.parent))
    said = cli(*arguments, "--rerun")
    assert said.code == 0, said.err
    assert said.out.count("recomputing") == 2


# verbs that show


def test_run_prints_means_with_intervals(cli: CommandLine, trained: Trained) -> None:
    said = cli("run", "robustness", "--preset=smoke", *trained.flags, f"--runs={trained.runs}")
    assert said.code == 0, said.err
    lines = {line.split()[0]: line for line in said.out.splitlines() if line.startswith("  ")}
    for name in ("psnr", "psnr_degraded", "ssim", "nfe"):
        assert "[" in lines[name], lines[name]
        assert "]" in lines[name], lines[name]
    assert "over 6 images" in said.out


def test_report_wants_the_cells_first_and_then_redraws(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    flags = ["robustness", "--preset=smoke", *trained.flags, *ONE_CELL]
    line = cli.refuses("report", *flags, f"--runs={tmp_path / 'none'}")
    assert line.startswith(
        "6 of 6 cells and statistics are not computed yet; run: python -m workbench study robustness"
    )
    assert "--preset smoke" in line
    mine = trained.copy(tmp_path)
    assert cli("study", *flags, f"--runs={mine.runs}").code == 0
    (page,) = mine.runs.glob("studies/robustness/*/report/index.html")
    page.unlink()
    said = cli("report", *flags, f"--runs={mine.runs}")
    assert said.code == 0, said.err
    assert "</html>" in page.read_text()
    assert str(page) in said.out


@pytest.mark.usefixtures("no_training")
def test_report_all_draws_every_page_and_an_index(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    mine = trained.copy(tmp_path)
    runs = f"--runs={mine.runs}"
    flags = ["robustness", "--preset=smoke", *trained.flags, *ONE_CELL]
    shutil.rmtree(mine.runs / "studies", ignore_errors=True)  # what other tests left in the shared folder
    assert "no study has results in" in cli.refuses("report", "--all", runs)
    assert cli("study", *flags, runs).code == 0
    (page,) = mine.runs.glob("studies/robustness/*/report/index.html")
    page.write_text("an old page")
    said = cli("report", "--all", runs)
    assert said.code == 0, said.err
    index = mine.runs / "studies" / "index.html"
    assert str(index) in said.out
    assert "</html>" in page.read_text()
    link = page.relative_to(index.parent).as_posix()
    text = index.read_text()
    for part in (f'href="{link}"', "robustness, smoke", "Does a severity encoder", "--preset smoke"):
        assert part in text
    assert "earlier" not in text
    # a study whose cells are gone keeps its page, and the index says why
    page.write_text("the only page")
    shutil.rmtree(mine.runs / "stages" / "evaluate")
    said = cli("report", "--all", runs)
    assert said.code == 0, said.err
    assert "5 of 6 cells and statistics are not computed yet" in said.out
    assert page.read_text() == "the only page"
    assert "earlier report: 5 of 6 cells and statistics are not computed yet" in index.read_text()
    # without its summary nothing is known of it
    (page.parent / "summary.json").unlink()
    assert "none of the results" in cli.refuses("report", "--all", runs)


@pytest.mark.parametrize("arguments", [(), ("robustness", "--all"), ("--all", "--num_images=4")])
def test_report_wants_a_name_or_all(arguments: tuple[str, ...], cli: CommandLine) -> None:
    assert cli.refuses("report", *arguments).startswith("give the name of a study, or --all")


def test_show_lists_cells_and_what_is_left(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    flags = ["robustness", "--preset=smoke", *trained.flags]
    said = cli("show", *flags, f"--runs={trained.runs}")
    assert said.code == 0, said.err
    assert said.out.count("cached") == 1
    assert said.out.count("needs") == 25
    assert "34 stages are left" in said.out, "25 cells, 4 severity encoders, 4 statistics and the latents they rest on"
    assert cli("study", *flags, *ONE_CELL, f"--runs={trained.runs}").code == 0
    said = cli("show", *flags, *ONE_CELL, f"--runs={trained.runs}")
    assert "all cached" in said.out
    said = cli("show", *flags, *ONE_CELL, f"--runs={tmp_path / 'none'}")
    assert "train_autoencoder, encode_latents, train_prior" in said.out


@pytest.mark.parametrize("kind", ["npy", "image_folder"])
def test_data_show_writes_a_picture(kind: str, cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    path = trained.source if kind == "npy" else pictures(tmp_path / "folder", 100)
    output = tmp_path / "sheets" / "sheet.png"
    said = cli("data", "show", kind, f"--path={path}", "--size=16", "--channels=1", "--output", output)
    assert said.code == 0, said.err
    with Image.open(output) as picture:
        assert picture.format == "PNG"
    assert str(output) in said.out


def test_data_show_takes_the_degradations_settings(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    output = tmp_path / "sheet.png"
    arguments = ("data", "show", "npy", f"--path={trained.source}", "--size=16", "--channels=1", "--output", output)
    said = cli(*arguments, "--degradation=deepinv_physics", "--degradation.factory=deepinv_factories:halved")
    assert said.code == 0, said.err
    assert output.is_file()
    line = cli.refuses(*arguments, "--degradation=deepinv_physics", "--degradation.factory=deepinv_factories:forgotten")
    assert "A_dagger" in line
    parts = '[{"kind": "jpeg"}, {"kind": "compose"}]'
    assert "a part cannot be compose" in cli.refuses(
        *arguments, "--degradation=compose", f"--degradation.parts={parts}"
    )


def test_stopping_is_no_traceback(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("workbench.core.config.parse_overrides", stop)
    said = cli("run", "robustness")
    assert said.code == 130
    assert "Traceback" not in said.err


def test_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m workbench study --list | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.stderr == ""


def test_paths_in_the_home_folder(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells leave ~ as it is after an equals sign."""
    monkeypatch.setenv("HOME", str(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    cli("data", "show", "npy", "--path=~/images.npy", "--size=16", "--channels=1", "--output=~/sheets/sheet.png")
    assert (tmp_path / "sheets" / "sheet.png").is_file()
    assert not list(Path().glob("~*"))


def test_what_was_read_is_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 2, (40, 16, 16), dtype=np.uint8))
    command = ["data", "show", "npy", "--path=images.npy", "--size=16", "--channels=1"]
    run = subprocess.run(
        [sys.executable, "-m", "workbench", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    assert run.stdout == (
        "read 40 images from images.npy, left out 0; only values 0 and 1, read as black and white "
        "(if white is another value, set data.white)\nnpy: contact_sheet.png\n"
    )
