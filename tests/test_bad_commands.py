"""What a stranger may type: each is refused in one line, at once, before anything is computed or written."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine

NOBODY = 65534
NINES = "9" * 5000
ROBUSTNESS = ("robustness", "--preset=smoke")
TUNING = ("tuning", "--preset=smoke")
SHOW = ("data", "show", "npy", "--path=images.npy")
RESTORE = ("restore", "--input=in", "--output=out")
LOCAL = ("study", *ROBUSTNESS, "--cluster=local")
PHYSICS = "--degradation.kind=deepinv_physics"

FIELDS = {
    "--start.offset_db=-1e6": "start.offset_db: input should be at least -60 and at most 60 (got -1000000.0)",
    "--start.offset_db=1e308": "start.offset_db: input should be at least -60 and at most 60 (got 1e+308)",
    "--start.offset_db=1e400": "--start.offset_db: the number 1e400 is too large",
    "--start.offset_db=-Infinity": "start.offset_db: input should be a finite number (got '-Infinity')",
    "--start.offset_db=": "start.offset_db: input should be a valid number, unable to parse string as a number (got",
    "--start.offset_db=true": "start.offset_db: input should be a number, not true or false (got True)",
    "--start.offset_db=[1]": "start.offset_db: input should be a valid number (got [1])",
    "--start.offset_db=\x1b[31mred": "start.offset_db: input should be a valid number, unable to parse string as a "
    r"number (got '\x1b[31mred')",
    "--start.risk=1": "start.risk: input should be above 0 and below 1 (got 1)",
    "--seed=-1": "seed: input should be at least 0 and at most 9223372036854775807 (got -1)",
    f"--seed={2**70}": "seed: input should be at least 0 and at most 9223372036854775807 (got 1180591620717411303424)",
    "--seed=3.5": "seed: input should be a valid integer, got a number with a fractional part (got 3.5)",
    f"--seed={NINES}": "--seed: a number of 5000 digits is too large",
    f"--seed={'[' * 100_000}": "--seed: too many nested brackets",
    "--num_images=1e10": "num_images: input should be at least 1 and at most 1000000000 (got 10000000000.0)",
    "--num_images=true": "num_images: input should be a number, not true or false (got True)",
    "--data.size=1e9": "data.size: input should be at least 8 and at most 32 (got 1000000000.0)",
    "--data.channels=true": "data.channels: input should be a number, not true or false (got True)",
    "--data=npy": "data has fields: set them with --data.NAME=VALUE (got 'npy')",
    "--data.kind=[1]": "unknown kind [1] for data; available: fashion_mnist, cifar10, tiny_imagenet, imagenette",
    "--data.kind.x=1": "data.kind.x: data.kind is a plain value and has no fields",
    "--data..x=1": "unknown field 'data..x'; fashion_mnist has: kind, size, channels",
    "--prior.num_timesteps=1000000000": "prior.num_timesteps: input should be at least 2 and at most 100000 (got 1000",
    "--sampler.num_steps=0": "sampler.num_steps: input should be at least 1 and at most 100000 (got 0)",
    "--prior.batch_size=1000000": "prior.batch_size: input should be at least 1 and at most 65536 (got 1000000)",
    "--autoencoder.latent_channels=1000000": "autoencoder.latent_channels: input should be at least 1 and at most 8192",
    f"--prior.block_out_channels={[16] * 1000}": "prior.block_out_channels: tuple should have at most 12 items after",
    "--solver.guidance_scale=1e7": "solver.guidance_scale: input should be at least 0 and at most 1000000 (got 1000000",
    "--preset-settings=[/]": "unknown settings '[/]'; available: ",
}

COMMANDS = {
    "twice": (
        ("run", *ROBUSTNESS, '--lpips={"net": "vgg", "net": "alex"}'),
        "'net' is given twice: remove one",
    ),
    "null character": (("run", *ROBUSTNESS, '--lpips.backbone="a\\u0000b"'), r"'a\x00b' contains a null character"),
    "half a character": (("run", *ROBUSTNESS, '--lpips.backbone="\\ud800"'), "contains half a character"),
    "bytes": (("data", "show", "npy", "--path=\udcff"), r"\udcff is not a file"),
    "markup": (("data", "show", "npy", "--path=[/red]"), "[/red] is not a file"),
    "control": (("study", "\x1b[31m\n\rx"), r"unknown study '\x1b[31m\n\rx'; available: "),
    "endless": (("study", "x" * 100_000), "unknown study 'xxxx"),
    "verb": (("nonsense",), "No such command 'nonsense'. (see --help)"),
    "no study": (("run",), "Missing argument 'name'. (see --help)"),
    "option": (("compare", "robustness", "--x=1"), "No such option: --x (see --help)"),
    "no option's value": (("tune", *TUNING, "--trials"), "--trials"),
    "word for a number": (("tune", *TUNING, "--trials=x"), "Invalid value for '--trials': Input should be a valid int"),
    "choice": (
        ("study", *ROBUSTNESS, "--cluster=x"),
        "'--cluster': 'x' is not one of 'slurm', 'local'. (see --he",
    ),
    "preset": (("study", "robustness", "--preset=[/]"), "unknown preset '[/]'; available: smoke"),
    "jobs": (("study", *ROBUSTNESS, "--jobs=1000000000"), "--jobs must be at least 1 and at most 1024, got 1000000000"),
    "jobs below": (("study", *ROBUSTNESS, "--jobs=-1"), "--jobs must be at least 1 and at most 1024, got -1"),
    "batch": (("study", *ROBUSTNESS, f"--batch-size={10**12}"), "the batch size must be at least 1 and at most 65536"),
    "batch below": (("study", *ROBUSTNESS, "--batch-size=-1"), "the batch size must be at least 1 and at most 65536"),
    "batch digits": (("study", *ROBUSTNESS, f"--batch-size={NINES}"), "Invalid value for '--batch-size'"),
    "device": (("study", *ROBUSTNESS, "--device=[/]"), "device '[/]' cannot be used: "),
    "no device": (("study", *ROBUSTNESS, "--device="), "device '' cannot be used: "),
    "device lines": (("study", *ROBUSTNESS, "--device=x\ny"), r"device 'x\ny' cannot be used: "),
    "minutes": ((*LOCAL, "--cluster.minutes=1e12"), "cluster.minutes: input should be at least 1 and at most 527040"),
    "memory": (
        (*LOCAL, "--cluster.memory_gb=-1"),
        "cluster.memory_gb: input should be at least 0.1 and at most 1",
    ),
    "memory overflow": ((*LOCAL, "--cluster.memory_gb=1e400"), "--cluster.memory_gb: the number 1e400 is too large"),
    "resource": ((*LOCAL, "--cluster.=1"), "unknown field 'cluster.'"),
    "trials": (("tune", *TUNING, f"--trials={10**12}"), "--trials must be at least 1 and at most 1000000, got 100000"),
    "no trials": (("sweep", *TUNING, "--trials=0"), "--trials must be at least 1 and at most 1000000, got 0"),
    "val images": (("tune", *TUNING, f"--val-images={10**12}"), "--val-images must be at least 1 and at most 10000000"),
    "limit": (("tune", *TUNING, "--cost-limit=nan"), "--cost-limit must be at least 1"),
    "points": (("sweep", *TUNING, "--points=1"), "--points must be at least 2 and at most 1000, got 1"),
    "many points": (("sweep", *TUNING, f"--points={10**9}"), "--points must be at least 2 and at most 1000, got 100"),
    "bench": (("bench", f"--images={10**12}"), "--images must be at least 2 and at most 1000000000, got 1000000000000"),
    "bench one": (("bench", "--images=1"), "--images must be at least 2 and at most 1000000000, got 1"),
    "bench images": (("bench", "--num_images=5"), "--images sets the number of images: remove --num_images"),
    "data seed": ((*SHOW, "--seed=-1"), "--seed must be at least 0 and at most 9223372036854775807, got -1"),
    "data size": ((*SHOW, "--size=1000000000"), "data.size: input should be at least 8 and at most 8192 (got 1000000"),
    "data kind": (("data", "show", "[red]"), "unknown kind '[red]' for data; available: fashion_mnist"),
    "operator": ((*RESTORE, "--operator=[/]", "--severity=0.5"), "unknown kind '[/]' for degradation"),
    "no operator": ((*RESTORE, "--severity=0.5"), "Missing option '--operator'. (see --help)"),
    "no number": ((*RESTORE, "--operator=jpeg", "--severity=x"), "Invalid value for '--severity'"),
    "encoder": ((*RESTORE, "--operator=jpeg", "--severity=0.5", "--encoder=x"), "Invalid value for '--encoder'"),
    "runs is a file": (("show", *ROBUSTNESS, "--runs=file"), "file is not a folder: name the runs folder with --runs"),
    "runs in markup": (("report", "--all", "--runs=file/[/]"), "the runs folder file/[/] is not writable (Not a direc"),
    "endless runs": (("study", *ROBUSTNESS, f"--runs={'x' * 300}"), "is not writable (File name too long)"),
    "factory": (
        ("run", *ROBUSTNESS, PHYSICS, "--degradation.factory=[red]x"),
        "'[red]x' is not of the form MODULE:NAME",
    ),
    "settings": (
        ("run", *ROBUSTNESS, PHYSICS, "--degradation.factory=os:getcwd", '--degradation.settings={"a": 1e400}'),
        "--degradation.settings: the number 1e400 is too large",
    ),
}

FACTORIES = """
import sys

from deepinv.physics import Blur, Physics


class Odd(BaseException):
    pass


def leaves(severity): sys.exit(0)
def leaves_with_words(severity): sys.exit("bye\\nbye")
def raises(severity): raise Odd("[/]\\x1b[31m")


class Leaving(Physics):
    def A(self, x, **_): sys.exit(0)


def leaves_when_called(severity): return Leaving()
"""


@pytest.fixture(autouse=True)
def place(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that the commands are typed in."""
    np.save("images.npy", np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8))
    Path("file").touch()
    Path("in").mkdir()
    Path("leaves_when_imported.py").write_text("import sys\nsys.exit(0)\n")
    Path("factories.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "factories", raising=False)
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("field", FIELDS, ids=lambda field: ascii(field)[1:45])
def test_bad_fields(field: str, cli: CommandLine) -> None:
    line = cli.refuses("run", *ROBUSTNESS, field)
    assert line.startswith(FIELDS[field])
    assert len(line) < 500
    assert not Path("runs").exists()


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("case", COMMANDS)
def test_bad_commands(case: str, cli: CommandLine) -> None:
    arguments, expected = COMMANDS[case]
    line = cli.refuses(*arguments)
    assert expected in line
    assert line.isprintable()
    assert len(line) < 700


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        ("leaves_when_imported:f", "SystemExit: 0"),
        ("factories:leaves", "fails at severity 0: SystemExit: 0"),
        ("factories:leaves_with_words", "fails at severity 0: SystemExit: bye"),
        ("factories:raises", r"fails at severity 0: Odd: [/]\x1b[31m"),
        ("factories:leaves_when_called", "cannot measure 3 x 32 x 32 images: SystemExit: 0"),
    ],
)
def test_code_of_a_user_that_leaves_does_not_end_a_command_as_if_it_were_done(
    factory: str, told: str, cli: CommandLine
) -> None:
    line = cli.refuses(*SHOW, "--degradation=deepinv_physics", f"--degradation.factory={factory}")
    assert line.endswith(told)


@pytest.mark.parametrize("code", ["0", "None", "1", "'bye\\nbye'"])
def test_an_exit_from_elsewhere_is_no_success(code: str, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*_: object, **__: object) -> None:
        sys.exit(eval(code))

    monkeypatch.setattr("workbench.experiments.study.load_study", leave)
    told = cli.refuses("run", "robustness")
    shown = " ".join(str(eval(code)).split())
    assert told == f"a library or your own code exited before the command was done (SystemExit: {shown})"


def test_ctrl_c_in_code_of_a_user_is_ctrl_c(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("workbench.experiments.study.load_study", interrupt)
    said = cli("run", "robustness")
    assert (said.code, said.err) == (130, "stopped; run the same command again to resume\n")


# who only reads


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("verb", ["show", "compare", "doctor"])
def test_who_only_reads_makes_no_runs_folder(verb: str, cli: CommandLine, tmp_path: Path) -> None:
    said = cli(verb, *(() if verb == "doctor" else ROBUSTNESS), "--runs", "none_yet")
    assert (said.code, said.err.count("\n")) == ((2, 1) if verb == "compare" else (0, 0)), said.err
    assert not (tmp_path / "none_yet").exists()


def test_who_only_reads_leaves_a_runs_folder_as_it_is(cli: CommandLine, tmp_path: Path) -> None:
    cell = tmp_path / "runs" / "stages" / "evaluate" / "0123456789ab"
    cell.mkdir(parents=True)
    (cell / "provenance.json").write_text("{")
    before = tree(tmp_path / "runs")
    assert cli("show", *ROBUSTNESS).code == 0
    assert cli.refuses("compare", *ROBUSTNESS)
    assert tree(tmp_path / "runs") == before


@contextmanager
def nobody() -> Iterator[None]:
    """Root, who may write everywhere, acts as nobody for the while."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_a_runs_folder_that_is_read_only_is_shown(cli: CommandLine) -> None:
    assert cli("show", *ROBUSTNESS, "--runs", "none_yet").code == 0  # what is imported, nobody may not read
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        with nobody():
            said = cli("show", *ROBUSTNESS, "--runs", folder)
            line = cli.refuses("report", *ROBUSTNESS, "--runs", folder)
        assert (said.code, "stages are left" in said.out) == (0, True), said.err
        assert line == f"the runs folder {folder} is not writable (Permission denied): choose another with --runs"
        assert not list(folder.iterdir())
