"""Restoring a user's own degraded images by the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import CommandLine, Trained
from degraded_pictures import DONE, LISTENS, NUM_IMAGES, SEVERITY, measure, pixels, table, without_encoder, words, write
from PIL import Image

from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.data.base import ImageSource
from workbench.degradations import Degradation, Mixture, MotionBlurCRF, RandomInpainting, SuperResolution
from workbench.experiments.restore.journal import JOURNAL
from workbench.experiments.restore.outputs import Outputs
from workbench.restoration import Restorer
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime

CLOTHES = "--data.kind=fashion_mnist"


def restored(cell: Evaluate, measurement: Measurement, runs: Path) -> dict[int, torch.Tensor]:
    """What the restorer makes of a measurement, by image id."""
    batches = cell.restorer(Runtime(runs)).restore([measurement])
    return {key: x for batch in batches for key, x in zip(batch.ids.tolist(), batch.x_hat, strict=True)}


def test_every_image_is_restored_and_listed(cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "output"
    said = cli(*words(trained, degraded, output))
    assert said.code in DONE, said.err
    assert f"{NUM_IMAGES} images and restored.csv in {output}" in said.out
    names = [f"{number}.png" for number in range(NUM_IMAGES)]
    assert sorted(path.name for path in output.iterdir()) == [*names, "restored.csv"]
    rows = table(output)
    assert [row["image"] for row in rows] == names
    for row in rows:
        assert float(row["sigma_hat"]) > 0
        assert -1 <= int(row["start_timestep"]) < 1000
        assert 0 < int(row["nfe"]) <= 20
        assert float(row["seconds"]) >= 0
    assert pixels(output / "0.png").shape == (16, 16)


def test_pictures_are_those_of_the_restorer(
    cell: Evaluate, cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    """The same operator, noise level and draws as when the restorer is called on the same measurement."""
    from workbench.data.base import content_ids

    y = torch.stack([torch.from_numpy(pixels(degraded / f"{i}.png").copy())[None] for i in range(NUM_IMAGES)]) / 255
    ids = torch.from_numpy(content_ids(y.permute(0, 2, 3, 1).contiguous().numpy()))
    severity = torch.full((NUM_IMAGES,), SEVERITY)
    params = cell.degradation.parameters(severity, ids, 0, (1, 16, 16))
    measurement = Measurement(y, ids, cell.degradation.noise_level(severity), params)
    expected = restored(cell, measurement, trained.runs)
    assert cli(*words(trained, degraded, tmp_path / "output")).code in DONE
    for number, key in enumerate(ids.tolist()):
        found = pixels(tmp_path / "output" / f"{number}.png").astype(int)
        assert np.abs(found - (expected[key][0] * 255).round().numpy()).max() <= 1


def test_the_severity_matters(cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path) -> None:
    for name, extra in (("same", []), ("again", []), ("other", ["--severity=1"])):
        assert cli(*words(trained, degraded, tmp_path / name), LISTENS, *extra).code in DONE
    same, again, other = (pixels(tmp_path / name / "0.png") for name in ("same", "again", "other"))
    assert np.array_equal(same, again)
    assert not np.array_equal(same, other)


def test_the_batch_size_does_not_matter(cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path) -> None:
    for size in (1, 64):
        assert cli(*words(trained, degraded, tmp_path / str(size)), f"--batch-size={size}").code in DONE
    for number in range(NUM_IMAGES):
        one, many = (pixels(tmp_path / size / f"{number}.png").astype(int) for size in ("1", "64"))
        assert np.abs(one - many).max() <= 1


def test_files_of_equal_content_are_restored_alike(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    (degraded / "twin.png").write_bytes((degraded / "1.png").read_bytes())
    assert cli(*words(trained, degraded, tmp_path / "output")).code in DONE
    assert len(table(tmp_path / "output")) == NUM_IMAGES + 1
    assert np.array_equal(pixels(tmp_path / "output" / "1.png"), pixels(tmp_path / "output" / "twin.png"))


@pytest.mark.parametrize("operator", [RandomInpainting(), Mixture()])
def test_operators_drawn_at_random_take_their_parameters_from_a_file(
    operator: Degradation, cell: Evaluate, cli: CommandLine, trained: Trained, tmp_path: Path
) -> None:
    measurement = measure(cell, operator)
    degraded = write(measurement.y, tmp_path / "degraded")
    arguments = words(trained, degraded, tmp_path / "output", operator.kind)
    line = cli.refuses(*arguments)
    assert line.startswith(f"{operator.kind} draws its parameters at random: pass yours with --params FILE.npz, with ")
    for name, value in measurement.params.items():
        assert f"{name} {tuple(value.shape)}" in line
    # in double precision, as numpy makes them
    np.savez(tmp_path / "params.npz", **{name: value.double().numpy() for name, value in measurement.params.items()})
    said = cli(*arguments, f"--params={tmp_path / 'params.npz'}")
    assert said.code in DONE, said.err
    assert len(table(tmp_path / "output")) == NUM_IMAGES


def test_given_masks_are_used(cell: Evaluate, cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    measurement = measure(cell, RandomInpainting())
    degraded = write(measurement.y, tmp_path / "degraded")
    for name, mask in (("all", torch.ones(NUM_IMAGES, 1, 16, 16)), ("own", measurement.params["mask"])):
        np.savez(tmp_path / f"{name}.npz", mask=mask.numpy())
        arguments = words(trained, degraded, tmp_path / name, "random_inpainting")
        assert cli(*arguments, LISTENS, f"--params={tmp_path / name}.npz").code in DONE
    assert not np.array_equal(pixels(tmp_path / "all" / "0.png"), pixels(tmp_path / "own" / "0.png"))


def test_dropped_pixels_are_not_observed(
    cell: Evaluate, cli: CommandLine, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measurement = measure(cell, RandomInpainting())
    degraded = write(measurement.y, tmp_path / "degraded")
    mask = measurement.params["mask"]
    np.savez(tmp_path / "params.npz", mask=mask.numpy())
    seen: list[Measurement] = []
    restore = Restorer.restore
    monkeypatch.setattr(
        Restorer, "restore", lambda self, batches: restore(self, (seen.append(m) or m for m in batches))
    )
    arguments = words(trained, degraded, tmp_path / "output", "random_inpainting")
    assert cli(*arguments, f"--params={tmp_path / 'params.npz'}").code in DONE
    (found,) = seen
    assert found.observed is not None
    assert torch.equal(found.observed, mask)
    assert torch.equal(found.params["mask"], mask)


def test_a_kernel_may_have_a_size_of_its_own(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "params.npz", filter=np.full((NUM_IMAGES, 1, 5, 5), 1 / 25))
    assert cli(*words(trained, degraded, tmp_path / "output"), f"--params={tmp_path / 'params.npz'}").code in DONE


@pytest.mark.usefixtures("no_training")
def test_without_an_encoder_nothing_is_trained(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    own = [flag for flag in trained.flags if not flag.startswith("--severity_encoder")]
    arguments = [word for word in words(trained, degraded, tmp_path / "output") if word not in trained.flags]
    said = cli(*arguments, *own, "--encoder=none")
    assert said.code in DONE, said.err
    rows = table(tmp_path / "output")
    assert {row["sigma_hat"] for row in rows} == {""}, "nothing is predicted"
    assert all(float(row["start_sigma"]) > 0 for row in rows)
    assert cli(*arguments, *own, "--encoder=none", "--overwrite", "--start.kind=full").code in DONE
    # another operator, and not a linear one
    assert cli(*arguments, *own, "--encoder=none", "--overwrite", "--operator=jpeg").code in DONE


@pytest.fixture
def no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reads a data set of images fails the test."""
    monkeypatch.setattr(ImageSource, "split", lambda *_: pytest.fail("a data set was read"))
    monkeypatch.setattr(ImageSource, "fingerprint", property(lambda _: pytest.fail("a data set was read")))


@pytest.mark.usefixtures("no_training", "no_images")
@pytest.mark.parametrize("of", [[], [CLOTHES]], ids=["photographs", "clothes"])
def test_what_ships_needs_no_data_set(of: list[str], cli: CommandLine, tmp_path: Path) -> None:
    """Pictures of any size, and what the severity encoder's start is checked with."""
    rows, columns = torch.meshgrid(torch.linspace(0, 3, 40), torch.linspace(0, 3, 52), indexing="ij")
    degraded = write((rows.sin() * columns.cos()).square()[None, None], tmp_path / "degraded")
    fields = {"input": degraded, "output": tmp_path / "output", "operator": "gaussian_blur", "severity": SEVERITY}
    flags = [f"--{name}={value}" for name, value in fields.items()]
    said = cli("restore", *flags, f"--runs={tmp_path / 'runs'}", "--sampler.num_steps=100", *of)
    assert said.code in DONE, said.err
    assert pixels(tmp_path / "output" / "0.png").shape == (40, 52)
    (row,) = table(tmp_path / "output")
    assert 0 < float(row["sigma_hat"]) < 1
    assert 0 < float(row["start_sigma"]) < 1
    assert not list((tmp_path / "runs" / "stages").glob("*")), "everything ships"


@pytest.mark.usefixtures("no_training")
def test_the_universal_encoder_ships(cli: CommandLine, tmp_path: Path) -> None:
    shipped = Evaluate()
    degraded = write(measure(shipped, SuperResolution()).view, tmp_path / "degraded")  # type: ignore[arg-type]
    fields = {"input": degraded, "output": tmp_path / "output", "operator": "gaussian_blur", "severity": SEVERITY}
    flags = [f"--{name}={value}" for name, value in fields.items()]
    said = cli("restore", *flags, f"--runs={tmp_path / 'runs'}", "--encoder=universal", "--start.variance=max", CLOTHES)
    assert said.code in DONE, said.err
    rows = table(tmp_path / "output")
    assert len(rows) == NUM_IMAGES
    assert all(0 < float(row["sigma_hat"]) < 1 for row in rows)
    line = cli.refuses("restore", *flags, "--encoder=universal", "--severity_encoder.seed=1", CLOTHES)
    assert line.startswith("no universal encoder ships for this data and autoencoder")


def grey(size: int, mode: str = "L") -> Image.Image:
    return Image.new(mode, (size, size))


BAD_IMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "damaged": (lambda folder: (folder / "9.png").write_bytes(b"PNG"), "cannot read the image"),
    "cut": (lambda folder: (folder / "9.png").write_bytes((folder / "0.png").read_bytes()[:60]), "cannot read"),
    "clash": (lambda folder: grey(16).save(folder / "0.bmp"), "0.bmp and 0.png would both become 0.png"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_are_one_line(case: str, cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path) -> None:
    make, message = BAD_IMAGES[case]
    make(degraded)
    assert message in cli.refuses(*words(trained, degraded, tmp_path / "output"))
    assert not (tmp_path / "output").exists()


def test_a_folder_without_images_is_one_line(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    assert "nowhere is neither a folder nor a file" in cli.refuses(
        *words(trained, tmp_path / "nowhere", tmp_path / "output")
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    assert "empty has no images" in cli.refuses(*words(trained, tmp_path / "empty", tmp_path / "output"))


@pytest.mark.parametrize("severity", ["-0.1", "1.5", "nan", "1e308"])
def test_a_severity_outside_its_range_is_one_line(
    severity: str, cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    line = cli.refuses(*words(trained, degraded, tmp_path / "output"), f"--severity={severity}")
    assert "severity must be in [0, 1]" in line


def test_an_unknown_operator_is_one_line(cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path) -> None:
    line = cli.refuses(*words(trained, degraded, tmp_path / "output", "gausian_blur"))
    assert "unknown kind 'gausian_blur'" in line
    assert "gaussian_blur, random_inpainting" in line


def test_a_physics_of_ones_own_is_an_operator(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    arguments = words(trained, degraded, tmp_path / "output", "deepinv_physics")
    said = cli(*arguments, "--degradation.factory=deepinv_factories:defocus")
    assert said.code in DONE, said.err
    assert len(table(tmp_path / "output")) == NUM_IMAGES
    refused = {"rounded": "is not differentiable", "halved": "not image files", "gone": "has no gone"}
    for factory, message in refused.items():
        assert message in cli.refuses(*arguments, "--overwrite", f"--degradation.factory=deepinv_factories:{factory}")
    assert "degradation.factory: field required" in cli.refuses(*arguments)


def test_shares_spare_the_parameters_of_a_composition(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    arguments = words(trained, degraded, tmp_path / "output", "compose")
    assert "compose draws its parameters at random" in cli.refuses(*arguments)
    said = cli(*arguments, "--degradation.shares=[1,0.2,0.5]")
    assert said.code in DONE, said.err
    assert len(table(tmp_path / "output")) == NUM_IMAGES


def test_a_recalibrated_start_with_a_risk_is_fitted_and_used(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    own = ["--start.variance=encoder", "--start.recalibration.kind=isotonic", "--start.risk=0.2"]
    said = cli(*words(trained, degraded, tmp_path / "output"), *own)
    assert said.code in DONE, said.err
    rows = table(tmp_path / "output")
    factors = {round(float(row["start_sigma"]) / float(row["sigma_hat"]), 3) for row in rows}
    assert factors != {1.0}


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("--start.risk=10", "start.risk: input should be above 0 and below 1 (got 10)"),
        ("--start.risk=0.01", "risk=0.01 needs 99 validation images for comparison, but there are 7: use more"),
        ("--start.recalibration.kind=platt", "available: none, factor, temperature, isotonic"),
    ],
)
def test_a_recalibration_that_cannot_be_is_refused_in_a_line(
    start: str, message: str, cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    said = cli.refuses(*words(trained, degraded, tmp_path / "output"), "--start.variance=encoder", start)
    assert message in said


@pytest.mark.parametrize("variance", [[], ["--start.variance=residual"], ["--start.variance=fused"]])
@pytest.mark.parametrize("start", ["risk=0.1", "recalibration.kind=isotonic", "noise=channel"])
def test_without_an_encoder_nothing_is_recalibrated(
    variance: list[str], start: str, cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    said = cli.refuses(*without_encoder(words(trained, degraded, tmp_path / "output")), *variance, f"--start.{start}")
    assert "needs a severity encoder, but there is none: restore with --encoder quick, matched or universal" in said


def test_a_second_run_into_the_same_folder_asks_before_it_computes(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    arguments = words(trained, degraded, tmp_path / "output")
    assert cli(*arguments).code in DONE
    before = (tmp_path / "output" / "0.png").read_bytes()
    assert "add --overwrite" in cli.refuses(*arguments, "--severity=1")
    assert (tmp_path / "output" / "0.png").read_bytes() == before
    assert cli(*arguments, "--overwrite").code in DONE
    assert (tmp_path / "output" / "0.png").read_bytes() == before


class Interrupted:
    """A run into an output folder that is interrupted after two images, and what a whole run writes."""

    def __init__(
        self, cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.cli, self.output, self.degraded = cli, tmp_path / "output", degraded
        self.command = words(trained, degraded, self.output)
        assert cli(*words(trained, degraded, tmp_path / "whole")).code in DONE
        self.whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.png")}
        self.rows = table(tmp_path / "whole")
        write_one, self.written = Outputs.write, list[str]()

        def write(outputs: Outputs, name: str, x_hat: torch.Tensor, entry: Any = None) -> Sequence[str]:
            if len(self.written) == 2:
                raise KeyboardInterrupt
            self.written.append(name)
            return write_one(outputs, name, x_hat, entry)

        with monkeypatch.context() as patch:
            patch.setattr(Outputs, "write", write)
            self.said = cli(*self.command)
        assert self.said.code == 130

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.output.iterdir()}

    def assert_whole(self) -> None:
        """As if it had never been interrupted."""
        found = self.files()
        assert found.pop("restored.csv")
        assert found == self.whole
        own, other = ([r | {"seconds": ""} for r in rows] for rows in (table(self.output), self.rows))
        assert own == other


@pytest.fixture
def interrupted(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Interrupted:
    (degraded / "4.png").write_bytes((degraded / "3.png").read_bytes())  # the same content
    return Interrupted(cli, trained, degraded, tmp_path, monkeypatch)


def test_an_interrupted_run_lists_what_it_restored(interrupted: Interrupted) -> None:
    assert [row["image"] for row in table(interrupted.output)] == sorted(interrupted.written)
    assert f"2 of {NUM_IMAGES} images are in {interrupted.output}; the same command continues" in interrupted.said.out
    assert set(interrupted.files()) == {*interrupted.written, "restored.csv", JOURNAL}, "no half files"


def test_the_same_command_continues(interrupted: Interrupted, monkeypatch: pytest.MonkeyPatch) -> None:
    written, write_one = list[str](), Outputs.write

    def write(self: Outputs, name: str, *more: Any) -> Sequence[str]:
        written.append(name)
        return write_one(self, name, *more)

    monkeypatch.setattr(Outputs, "write", write)
    said = interrupted.cli(*interrupted.command)
    assert said.code in DONE
    assert f"continuing: 2 of {NUM_IMAGES} images are in {interrupted.output}" in said.out
    assert {*written, *interrupted.written} == {f"{i}.png" for i in range(NUM_IMAGES)}
    assert len(written) == NUM_IMAGES - 2
    interrupted.assert_whole()
    assert "already contains" in interrupted.cli.refuses(*interrupted.command), "nothing is left to continue"


@pytest.mark.parametrize("damage", ["cut", "no table", "lost picture"])
def test_what_a_killed_process_leaves_is_continued(damage: str, interrupted: Interrupted) -> None:
    journal, report = interrupted.output / JOURNAL, interrupted.output / "restored.csv"
    match damage:
        case "cut":  # killed while it noted the second picture
            lines = journal.read_text().splitlines()
            last = max(i for i, line in enumerate(lines) if interrupted.written[1] in line and '"row"' in line)
            journal.write_text("\n".join(lines[:last]) + "\n" + lines[last][: len(lines[last]) // 2])
            (interrupted.output / interrupted.written[1]).unlink()
            report.unlink()
        case "no table":
            report.unlink()
        case _:
            (interrupted.output / interrupted.written[0]).unlink()
    assert interrupted.cli(*interrupted.command).code in DONE
    interrupted.assert_whole()


def test_nothing_of_somebody_elses_is_overwritten(interrupted: Interrupted) -> None:
    cli, output, done = interrupted.cli, interrupted.output, interrupted.written[0]
    left = next(name for name in interrupted.whole if name not in interrupted.written)
    own = (output / done).read_bytes()

    def refused(*more: str) -> str:
        before = interrupted.files()
        said = cli.refuses(*interrupted.command, *more)
        assert interrupted.files() == before
        return said

    (output / left).write_bytes(b"somebody's")
    assert f"already contains {left} (1 of {NUM_IMAGES + 1} files)" in refused()
    (output / left).unlink()
    (output / done).write_bytes(interrupted.whole[left])  # an output, but of another picture
    assert f"already contains {done}" in refused()
    (output / done).write_bytes(own)
    (output / "restored.csv").write_text("notes of somebody")
    assert "restored.csv was changed since the run that was interrupted: move it away" in refused()
    (output / "restored.csv").unlink()
    for more in ("--severity=1", "--solver.guidance_scale=7", "--format=npy"):
        expected = (
            "or the severity or parameters, changed since the run"
            if more == "--severity=1"
            else "an interrupted run with other settings"
        )
        assert expected in refused(more)
    Image.fromarray(255 - pixels(interrupted.degraded / done)).save(interrupted.degraded / done)
    assert f"{done}, or the severity or parameters, changed since the run" in refused()
    assert cli(*interrupted.command, "--overwrite").code in DONE
    assert set(interrupted.files()) == {*interrupted.whole, "restored.csv"}


def test_an_input_in_the_output_folder_stays(interrupted: Interrupted, tmp_path: Path) -> None:
    left = next(name for name in interrupted.whole if name not in interrupted.written)
    source = interrupted.output / left
    source.write_bytes((interrupted.degraded / left).read_bytes())
    one = [word if not word.startswith("--input=") else f"--input={source}" for word in interrupted.command]
    before = source.read_bytes()
    assert "already contains" in interrupted.cli.refuses(*one)
    assert source.read_bytes() == before


@pytest.mark.usefixtures("no_training")
def test_an_output_that_cannot_be_is_refused_before_training(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    arguments = words(trained, degraded, tmp_path / "file")
    assert "cannot be written" in cli.refuses(*arguments, "--severity_encoder.seed=5")


def test_one_picture_with_two_kernels_is_two_images(
    cell: Evaluate, cli: CommandLine, trained: Trained, tmp_path: Path
) -> None:
    """Each is restored with its own, as if the other were not there."""
    measurement = measure(cell, MotionBlurCRF())
    kernels = measurement.params["filter"][:2].numpy()
    gain = measurement.params["gain"][:2].numpy()
    write(measurement.y[[0, 0]], tmp_path / "both")
    np.savez(tmp_path / "both.npz", filter=kernels, gain=gain)
    np.savez(tmp_path / "swapped.npz", filter=kernels[::-1], gain=gain)
    for name in ("both", "swapped"):
        arguments = words(trained, tmp_path / "both", tmp_path / f"{name}_out", "motion_blur_crf")
        assert cli(*arguments, LISTENS, f"--params={tmp_path / name}.npz").code in DONE
    first, second = (pixels(tmp_path / "both_out" / f"{number}.png") for number in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, pixels(tmp_path / "swapped_out" / "1.png"))
    assert np.array_equal(second, pixels(tmp_path / "swapped_out" / "0.png"))


def test_floats_in_an_array_are_restored_as_the_same_pictures_in_a_folder(
    cell: Evaluate, cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    y = np.stack([pixels(degraded / f"{number}.png") for number in range(NUM_IMAGES)]).astype(np.float32) / 255
    np.savez(tmp_path / "y.npz", y=y, names=np.arange(NUM_IMAGES).astype(str))
    assert cli(*words(trained, degraded, tmp_path / "folder")).code in DONE
    assert cli(*words(trained, tmp_path / "y.npz", tmp_path / "array"), "--format=npy").code in DONE
    for number in range(NUM_IMAGES):
        found = np.load(tmp_path / "array" / f"y_{number}.npy")
        assert np.abs(255 * found - pixels(tmp_path / "folder" / f"{number}.png")).max() < 0.51


def test_the_level_of_noise_is_said_and_may_be_stated(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    arguments = [*without_encoder(words(trained, degraded, tmp_path / "output")), "--overwrite"]
    lines = {
        "": "noise of standard deviation 0.05 on [0, 1] images, the default; set it with --noise-std "
        "(auto: estimate it)",
        "--noise-std=0.1": "noise of standard deviation 0.1 on [0, 1] images, as given",
        "--degradation.noise_std=0.1": "noise of standard deviation 0.1 on [0, 1] images, as given",
        "--noise-std=auto": "on [0, 1] images, estimated from the images",
    }
    levels = {}
    for flag, line in lines.items():
        said = cli(*arguments, *filter(None, [flag]))
        assert said.code in DONE, said.err
        assert line in said.out
        (levels[flag],) = {float(row["noise_std"]) for row in table(tmp_path / "output")}
    assert levels[""] == pytest.approx(0.05)
    assert levels["--noise-std=0.1"] == levels["--degradation.noise_std=0.1"] == pytest.approx(0.1)
    assert 0.02 < levels["--noise-std=auto"] < 0.1, "0.05 is in them"
    assert "give only one" in cli.refuses(*arguments, "--noise-std=0.1", "--degradation.noise_std=0.1")
    line = cli.refuses(*arguments, "--operator=gaussian_noise", "--severity=1", "--noise-std=0.2")
    assert "use --severity 0.333 without it" in line


def test_what_contradicts_the_operator_is_said_last(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path
) -> None:
    """White noise, of which no network makes a blurred picture."""
    y = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    said = cli(*without_encoder(words(trained, write(y, tmp_path / "wild"), tmp_path / "output")))
    assert said.code == 3
    assert said.out.splitlines()[-1].startswith("3 of 3 images contradict the operator or the model (")
    assert "0.png, 1.png, 2.png; check --operator" in said.out.splitlines()[-1]
    assert all(float(row["residual_ratio"]) > 2.5 for row in table(tmp_path / "output"))
    # a prior that has hardly learnt, with noise that explains anything
    said = cli(*without_encoder(words(trained, degraded, tmp_path / "output")), "--noise-std=0.3", "--overwrite")
    assert said.code == 0, said.out


def test_a_low_resolution_picture_is_one(cell: Evaluate, cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    measurement = measure(cell, SuperResolution())
    low = int(measurement.params["size"][0, 0])
    assert low < 16
    for name, y in (("low", measurement.y[..., :low, :low]), ("corner", measurement.y)):
        degraded = write(y, tmp_path / name)
        said = cli(*without_encoder(words(trained, degraded, tmp_path / f"{name}_out", "super_resolution")))
        assert said.code in DONE, said.err
        assert (f"{low} x {low} is the low resolution of 15 x 15" in said.out) == (name == "low")
    found, whole = (pixels(tmp_path / f"{name}_out" / "0.png") for name in ("low", "corner"))
    assert found.shape == (15, 15), "7 x 2.2 is 15.4"
    assert whole.shape == (16, 16)


SHAPES = ((16, 16), (20, 13), (9, 30), (1, 5), (16, 16))


def test_pictures_of_any_size_are_in_one_table(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, shape in enumerate(SHAPES):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{number}.png")
    said = cli(*without_encoder(words(trained, folder, tmp_path / "out")))
    assert said.code in DONE, said.err
    assert [row["image"] for row in table(tmp_path / "out")] == [f"{number}.png" for number in range(len(SHAPES))]
    assert [pixels(tmp_path / "out" / f"{number}.png").shape for number in range(len(SHAPES))] == list(SHAPES)
    # alone, a picture is restored as with others of its size and of other sizes
    alone = tmp_path / "alone"
    alone.mkdir()
    for number in (0, 1):
        (alone / f"{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    cli(*without_encoder(words(trained, alone, tmp_path / "alone_out")), "--noise-std=0.05", "--batch-size=1")
    for number in (0, 1):
        one, many = (pixels(tmp_path / name / f"{number}.png").astype(int) for name in ("alone_out", "out"))
        assert np.abs(one - many).max() <= 1


def test_masks_of_pictures_of_any_size_are_in_a_folder(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folders = {name: tmp_path / name for name in ("in", "masks", "kept")}
    for folder in folders.values():
        folder.mkdir()
    for number, shape in enumerate(SHAPES[:3]):
        mask = rng.random(shape) < 0.5
        y = rng.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(np.where(mask, y, 0).astype(np.uint8)).save(folders["in"] / f"{number}.png")
        Image.fromarray((255 * mask).astype(np.uint8)).save(folders["masks"] / f"{number}.png")
        Image.fromarray(np.full(shape, 255, np.uint8)).save(folders["kept"] / f"{number}.png")
    arguments = without_encoder(words(trained, folders["in"], tmp_path / "out", "random_inpainting"))
    said = cli(*arguments, LISTENS, f"--params={folders['masks']}")
    assert said.code in DONE, said.err
    assert cli(*arguments, LISTENS, f"--params={folders['kept']}", f"--output={tmp_path / 'all'}").code in DONE
    for number, shape in enumerate(SHAPES[:3]):
        own, whole = (pixels(tmp_path / name / f"{number}.png") for name in ("out", "all"))
        assert own.shape == shape
        assert not np.array_equal(own, whole)


def test_home_is_home_and_names_are_literal(
    cli: CommandLine, trained: Trained, degraded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (degraded / "0.png").rename(degraded / "[bold]x.png")
    (degraded / "1.png").rename(degraded / "\udcff.png")
    said = cli(*words(trained, Path("~/degraded"), Path("~/output")))
    assert said.code in DONE, said.err
    assert (tmp_path / "output" / "[bold]x.png").is_file()
    assert (tmp_path / "output" / "\udcff.png").is_file()
    assert {"[bold]x.png", "\\udcff.png"} <= {row["image"] for row in table(tmp_path / "output")}


@pytest.mark.parametrize(("flag", "group"), [([], None), (["--wandb"], "restore")])
def test_no_wandb_unless_asked(
    flag: list[str],
    group: str | None,
    cli: CommandLine,
    degraded: Path,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str | None] = []

    def open_runtime(runs: Path, device: str, batch_size: int, rerun: bool, group: str | None, **how: object) -> None:
        opened.append(group)
        raise UserError("stop")

    monkeypatch.setattr("workbench.cli.session.open_runtime", open_runtime)
    cli.refuses(*words(trained, degraded, tmp_path / "output"), *flag)
    assert opened == [group]


@pytest.mark.shared
@pytest.mark.usefixtures("no_training")
def test_the_right_parameters_restore_as_well_as_they_should(shared: Path, cli: CommandLine, tmp_path: Path) -> None:
    """A mask stored as 0 and 255, and clipped noise: 14.8 and 13.9 dB as they stand."""
    cases = shared / "cases"
    truth = np.load(cases / "truth_first_11.npy")[:, 0]
    mask = ["--operator=random_inpainting", "--severity=0.6", f"--params={cases / 'mask255' / 'mask255.npz'}"]
    noise = ["--operator=gaussian_noise", "--severity=1"]
    for folder, flags, least in (("mask255", mask, 23.0), ("clipped_noise/png", noise, 17.5)):
        output = tmp_path / folder
        said = cli("restore", f"--input={cases / folder}", f"--output={output}", CLOTHES, *flags)
        assert said.code == 0, said.err
        assert "contradict" not in said.out
        found = np.stack([pixels(path) for path in sorted(output.glob("*.png"))]) / 255
        psnr = -10 * np.log10(np.square(found - truth[:4]).mean((1, 2)))
        assert psnr.mean() > least
