"""From degraded to restored images: everything is checked first, then computed, written and judged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from workbench import __version__
from workbench.autoencoders import Pretrained
from workbench.core import randomness
from workbench.core.config import UserError, digest
from workbench.core.measurement import Measurement
from workbench.data.shown import PICTURE_CHANNELS
from workbench.degradations import AudioNoise, Degradation, GaussianNoise
from workbench.degradations.base import check_severity
from workbench.experiments.restore.arrays import read_arrays
from workbench.experiments.restore.cell import load_restorer, with_noise
from workbench.experiments.restore.clipping import unclipped
from workbench.experiments.restore.measurements import Group, as_measurements
from workbench.experiments.restore.noise import check_stated, doubt, estimate_noise
from workbench.experiments.restore.outputs import REPORT, Format, Outputs
from workbench.experiments.restore.parameters import Given, params_digest, read_parameters
from workbench.experiments.restore.pictures import Input, read_input
from workbench.experiments.restore.sounds import read_sounds, reads_sound
from workbench.experiments.restore.verdict import Found, Verdict, judge
from workbench.restoration import Restored, Restorer
from workbench.restoration.any_shape import adapted
from workbench.restoration.memory import fitted
from workbench.severity.untrained import NoEncoder, Untrained
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.rows import DRAW
from workbench.stages.runtime import Runtime


@dataclass(frozen=True)
class Request:
    """A user's request to restore images.

    Attributes:
        pictures: a folder of images, an image file, or an .npy or .npz of several.
        output: the folder for the restored images.
        severity: the operator's level in [0, 1], for all images; None: known from its parameters.
        params: .npz with the operator's parameters, or a folder with one file per image; required if the operator draws
            them at random (a mask, a kernel).
        noise_std: standard deviation of the noise on [0, 1] images; auto: estimated; None: as in the cell.
        overwrite: whether files in the output folder may be overwritten.
        file_format: format of the restored images; None: png, or for DICOM, NIfTI and WAV that of the input.
    """

    pictures: Path
    output: Path
    severity: float | None
    params: Path | None = None
    noise_std: float | Literal["auto"] | None = None
    overwrite: bool = False
    file_format: Format | None = None


def restore(cell: Evaluate, request: Request, runtime: Runtime) -> Verdict:
    """Restore every image into the output folder, with a table of severity, start, cost and residual.

    Images may have any size, and different ones. Size and channels are those of the images, not of the cell's data.

    Args:
        cell: the networks, the operator, the start rule and the solver.

    Returns:
        The contradictions found in the restored images; its message has been printed.

    Raises:
        UserError: for a severity outside [0, 1], images that cannot be read, parameters that are missing or unsuitable,
            a y that contradicts them, or an output folder that is not writable.
    """

    def say(line: str) -> None:
        runtime.progress.say(line.replace("\n", "\\n"))  # a name may contain line breaks

    if request.severity is not None:
        # too large values become infinite
        check_severity(torch.full((1,), float(request.severity), dtype=torch.float64).float())
    if (trained := cell.severity_stage()) is not None and trained.given() is None:
        trained.severity_encoder.degradation.check(cell.data.image_shape, gradient=False)
    if cell.degradation.measures_images and not (request.pictures.is_file() and reads_sound(request.pictures)):
        images = read_input(request.pictures, cell.data.channels)
    elif reads_sound(request.pictures):
        finds_losses = cell.degradation.draws_parameters and request.params is None
        images = read_sounds(request.pictures, cell.degradation, finds_losses=finds_losses)
    else:
        images = read_arrays(request.pictures)
    file_format = request.file_format
    if cell.data.channels not in PICTURE_CHANNELS:
        if file_format == "png":
            raise UserError(f"png has 1 or 3 channels, but restored images have {cell.data.channels}: use --format npy")
        file_format = "npy"
    outputs = Outputs(request.output, request.pictures, images, file_format, overwrite=request.overwrite)
    for line in images.lines:
        say(line)
    cell, groups = _measurements(cell, request, images, say)
    for channels in dict.fromkeys(group.image_shape[0] for group in groups):
        if channels not in (1, cell.data.channels):
            raise UserError(
                f"these measurements are of {channels}-channel images, but the model's have {cell.data.channels}"
            )
    cell.prior_stage().check()
    _check_sizes(cell, groups, runtime)
    cell.check_recalibration()
    cell.check_non_blind()
    settings, keys = _settings(cell, request), _keys(groups)
    done: dict[str, Mapping[str, Any]] = dict(outputs.continued(settings, keys))
    if done:
        say(f"continuing: {len(done)} of {_images(len(images))} are in {outputs.folder}")
    outputs.make()
    left = [group for g in groups if (group := g.without(done)) is not None]
    if left:
        _restore_groups(cell, left, images, outputs, keys, done, runtime, say)
    outputs.write_report([done[name] for name in images.names])
    outputs.finish()
    say(f"{_images(len(images))} and {REPORT} in {outputs.folder}")
    verdict = judge([Found.of(done[name]) for name in images.names])
    if verdict.line is not None:
        say(verdict.line)
    return verdict


def _restore_groups(
    cell: Evaluate,
    groups: Sequence[Group],
    images: Input,
    outputs: Outputs,
    keys: Mapping[str, str],
    done: dict[str, Mapping[str, Any]],
    runtime: Runtime,
    say: Callable[[str], None],
) -> None:
    """Restore and write the images that are not done, and list them; also those before an interruption."""
    restorer = load_restorer(cell, runtime)
    if (stage := cell.estimator_stage()) is not None:
        height, width = stage.data.image_shape[1:]
        of = "" if stage.samples_stage() is not None else f", fitted on {stage.data.kind} at {height} x {width}"
        say(f"severity{of}: {stage.load(runtime).claim}")

    rows: dict[str, Mapping[str, Any]] = {}
    num_left, num_before = sum(len(group.names) for group in groups), len(done)
    try:
        with runtime.progress.task(f"restoring {_images(num_left)}") as update:

            def under_way(in_slots: float) -> None:
                update(len(done) - num_before, num_left, under_way=in_slots)

            sized = {shape: fitted(restorer, shape) for shape in dict.fromkeys(group.image_shape for group in groups)}
            for group in groups:
                own = replace(sized[group.image_shape], under_way=under_way)
                for name, x_hat, row in _restored(own, group, cell, runtime.device):
                    rows[name] = row
                    for written in outputs.write(name, x_hat, {"key": keys[name], "row": row}):
                        done[written] = rows[written]
                    under_way(0.0)
    except BaseException:  # also list the images restored before an interruption
        if done:
            outputs.write_report([done[name] for name in images.names if name in done])
            there = f"{len(done)} of {_images(len(images))} are in {outputs.folder}"
            say(f"{there}; the same command {outputs.what_follows}")
        raise


def _images(number: int) -> str:
    return f"{number} image{'' if number == 1 else 's'}"


def _settings(cell: Evaluate, request: Request) -> str:
    """A digest of what all images depend on, with the source of classes and functions of the user's own."""
    members = (cell.degradation, cell.severity_encoder, cell.start, cell.solver, cell.sampler)
    made = (cell.autoencoder_stage(), cell.prior_stage(), cell.severity_stage(), cell.estimator_stage())
    identities = [None if stage is None else stage.identity for stage in made]
    own = [cell.seed, cell.sample, cell.precision, request.file_format, __version__]
    draws = [] if cell.num_draws == 1 else [cell.num_draws]
    return digest([*(member.canonical() for member in members), *identities, *own, *draws])


def _keys(groups: Sequence[Group]) -> dict[str, str]:
    """A digest of what else each image depends on: its content, parameters and level."""
    return {
        name: f"{randomness.seed_of(image_id, params_digest(group.of_image(), i)):x}"
        for group in groups
        for i, (name, image_id) in enumerate(zip(group.names, group.measurement.ids.tolist(), strict=True))
    }


def _check_sizes(cell: Evaluate, groups: Sequence[Group], runtime: Runtime) -> None:
    """Refuse images that given networks do not take, before anything is fitted."""
    if isinstance(cell.autoencoder, Pretrained) and cell.prior.is_given:
        autoencoder, prior = cell.autoencoder_stage().load(runtime), cell.prior.plan(cell.prior.folder())
        for shape in dict.fromkeys(group.image_shape for group in groups):
            adapted(autoencoder, Untrained(autoencoder), prior, shape)


def _restored(
    restorer: Restorer, group: Group, cell: Evaluate, device: str
) -> Iterator[tuple[str, Tensor, dict[str, Any]]]:
    """(name, restored image, row of the table) of each image, as they finish."""
    measurement = group.measurement
    names_of: dict[int, list[str]] = {}
    for image_id, name in zip(measurement.ids.tolist(), group.names, strict=True):
        names_of.setdefault(image_id, []).append(name)
    # images with equal content and parameters are the same for the solver
    ids = measurement.ids.tolist()
    different = measurement.take([ids.index(image_id) for image_id in names_of])
    for restored in restorer.restore(m.to(device) for m in _batches(different, restorer.num_slots)):
        own = restored.measurement
        with torch.no_grad():
            prediction = cell.degradation.A(restored.x_hat, own.params)
        residual = own.residual_rms(prediction).tolist()
        for i, image_id in enumerate(restored.ids.tolist()):
            for name in names_of[image_id]:
                yield name, restored.x_hat[i].cpu(), _row(name, residual[i], restored, i, cell)


def _measurements(
    cell: Evaluate, request: Request, images: Input, say: Callable[[str], None]
) -> tuple[Evaluate, list[Group]]:
    """The images as measurements of the operator, and the cell with their noise level."""
    degradation, given = cell.degradation, None
    if request.params is not None:
        shape = degradation.image_shape(images.groups[0].y)
        given = read_parameters(degradation, request.params, images.names, shape)
        for line in given.lines:
            say(line)
    elif images.params:
        given = Given(request.pictures, images.params, ())
    if given is not None:
        fitting = degradation.for_parameters(given.stacked(images.groups[0].names))
        if fitting != degradation:
            cell, degradation = cell.replace({"degradation": fitting}), fitting
    groups, lines = as_measurements(degradation, images, given, request.severity, gradient=cell.solver.guided)
    levels = torch.cat([g.measurement.severity for g in groups if g.measurement.severity is not None])
    low, high = float(levels.min()), float(levels.max())
    described = dict.fromkeys(degradation.describe(level) for level in (low, high))
    levels_text = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    say(f"{degradation.kind}, severity {levels_text}: {' to '.join(described)}")
    for line in dict.fromkeys(lines):
        say(line)
    return _with_stated_noise(cell, request, groups, say)


def _with_stated_noise(
    cell: Evaluate, request: Request, groups: list[Group], say: Callable[[str], None]
) -> tuple[Evaluate, list[Group]]:
    """The cell with the noise level of the images, and their measurements with it."""
    degradation, lines = cell.degradation, list[str]()
    pictures = [group for group in groups if group.measurement.view is None]
    seen = [(group.measurement.y, group.measurement.observed) for group in pictures]
    estimate = estimate_noise(seen) if seen else None
    cell = _with_noise(cell, request, estimate, [(1, *group.image_shape) for group in groups], say)
    if cell.degradation != degradation:  # with another noise level it is a different operator
        own = cell.degradation.with_own_noise
        groups = [replace(group, measurement=own(group.measurement)) for group in groups]
    noise_std = torch.cat([group.measurement.noise_std for group in groups])
    lines.append(_noise_line(cell.degradation, request, noise_std))
    if request.noise_std is None and (line := doubt(estimate, noise_std)):
        lines.append(line)
    num_clipped, num_images = 0, sum(len(group.names) for group in groups)
    for i, group in enumerate(groups):
        if group.measurement.view is None:
            measurement, number = unclipped(cell.degradation, group.measurement)
            groups[i], num_clipped = replace(group, measurement=measurement), num_clipped + number
    if num_clipped:
        lines.append(
            f"{num_clipped} of {num_images} images have noise clipped at 0 and 1: the clipped values are estimated; "
            "float files (.npy, .npz or TIFF) preserve them"
        )
    for line in lines:
        say(line)
    return cell, groups


def _with_noise(
    cell: Evaluate,
    request: Request,
    estimate: float | None,
    shapes: Sequence[tuple[int, int, int, int]],
    say: Callable[[str], None],
) -> Evaluate:
    """The cell with the requested noise level."""
    level = request.noise_std
    if level is None:
        return cell
    if level == "auto":
        if estimate is None:
            raise UserError("--noise-std auto: only images with neighbouring pixels give an estimate: give a number")
        level = float(f"{estimate:.2g}")
    if request.severity is not None:
        check_stated(cell.degradation, request.severity, level, estimated=request.noise_std == "auto")
    if isinstance(cell.degradation, GaussianNoise | AudioNoise):
        return cell
    before, cell = cell, with_noise(cell, level)
    if cell.start != before.start:
        ships = f"ships for noise {before.degradation.noise_std:g}"
        say(f"the correction of the start by the operator {ships}, so it is left out: start.variance=fused")
    for _, channels, height, width in shapes:  # a physics may have a contradicting noise model
        cell.degradation.check((channels, height, width), gradient=cell.solver.guided)
    return cell


def _noise_line(degradation: Degradation, request: Request, noise_std: Tensor) -> str:
    """The noise level and its source."""
    low, high = (float(end) for end in noise_std.aminmax())
    span = f"{low:.3g}" if high - low < 1e-6 else f"{low:.3g} to {high:.3g}"
    default = type(degradation).model_fields["noise_std"].default
    stated = cast("float | None", degradation.noise_std)  # None: a physics may have a noise model
    if isinstance(degradation, GaussianNoise | AudioNoise):
        who = "from the severity"
    elif request.noise_std is not None:
        who = "estimated from the images" if request.noise_std == "auto" else "as given"
    elif stated == default or (stated is None and abs(high - default) < 1e-6):
        who = "the default; set it with --noise-std (auto: estimate it)"
    else:
        who = "as given" if stated is not None else "from the physics' noise model"
    scale = "in waveforms on [-1, 1]" if degradation.measures_sound else "on [0, 1] images"
    return f"noise of standard deviation {span} {scale}, {who}"


def _row(name: str, residual: float, restored: Restored, i: int, cell: Evaluate) -> dict[str, Any]:
    noise_std = float(restored.measurement.noise_std[i])
    untrained = isinstance(cell.severity_encoder, NoEncoder)  # has no prediction
    return {
        "image": name,
        "sigma_hat": "" if untrained else float(restored.var_hat[i].sqrt()),
        "start_sigma": float(restored.start_variance[i].sqrt()),
        "distrusted": bool(restored.distrusted[i]),
        "start_timestep": int(restored.start_timestep[i]),
        **({} if cell.num_draws == 1 else {DRAW: int(restored.draw[i])}),
        "nfe": int(restored.nfe[i]),
        "diverged": bool(restored.diverged[i]),
        "seconds": round(float(restored.seconds[i]), 3),
        "noise_std": noise_std,
        "residual": residual,
        "residual_ratio": residual / noise_std if noise_std else "",
    }


def _batches(measurement: Measurement, size: int) -> Iterator[Measurement]:
    for first in range(0, len(measurement), size):
        yield measurement.take(slice(first, first + size))
