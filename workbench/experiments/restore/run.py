"""From degraded to restored images: everything is checked first, then computed, written and judged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.data.base import content_ids
from workbench.degradations import Degradation, GaussianNoise
from workbench.degradations.base import check_severity
from workbench.experiments.restore.cell import with_noise
from workbench.experiments.restore.clipping import unclipped
from workbench.experiments.restore.low_resolution import check_sizes, makes_smaller, severities
from workbench.experiments.restore.noise import check_stated, doubt, estimate_noise
from workbench.experiments.restore.outputs import REPORT, Format, Outputs
from workbench.experiments.restore.parameters import distinct, named, parameters
from workbench.experiments.restore.pictures import Measured, read_measured
from workbench.experiments.restore.verdict import Found, Verdict, judge
from workbench.restoration import Restored
from workbench.severity.untrained import NoEncoder
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime


@dataclass(frozen=True)
class Request:
    """A user's request to restore images.

    Attributes:
        pictures: a folder of images, an image file, or an .npy or .npz of several.
        output: the folder for the restored images.
        severity: the operator's level in [0, 1], for all images.
        params: .npz with the operator's parameters; required if the operator draws them at random (a mask, a kernel).
        noise_std: standard deviation of the noise on [0, 1] images; auto: estimated; None: as in the cell.
        overwrite: whether files in the output folder may be overwritten.
        file_format: format of the restored images.
    """

    pictures: Path
    output: Path
    severity: float
    params: Path | None = None
    noise_std: float | Literal["auto"] | None = None
    overwrite: bool = False
    file_format: Format = "png"


def restore(cell: Evaluate, request: Request, runtime: Runtime) -> Verdict:
    """Restore every image into the output folder, with a table of severity, start, cost and residual.

    Args:
        cell: the networks, the operator, the start rule and the solver.

    Returns:
        The contradictions found in the restored images; its message has been printed.

    Raises:
        UserError: for a severity outside [0, 1], images that cannot be read or have another size, parameters that
            are missing or unsuitable, a y that contradicts them, or an output folder that is not writable.
    """

    def say(line: str) -> None:
        runtime.progress.say(line.replace("\n", "\\n"))  # a name may contain line breaks

    level = torch.full((1,), float(request.severity), dtype=torch.float64).float()  # too large values become infinite
    check_severity(level)
    cell.check_operators()
    shape = cell.data.image_shape
    smaller = makes_smaller(cell.degradation, shape)
    measured = read_measured(request.pictures, shape, smaller=smaller)
    outputs = Outputs(request.output, request.pictures, measured, request.file_format, overwrite=request.overwrite)
    for line in measured.lines:
        say(line)
    cell, measurement = _measurement(cell, request, measured, level, smaller, say)
    cell.prior_stage().check()
    cell.check_recalibration()
    outputs.make()
    restorer = cell.restorer(runtime)
    if (stage := cell.estimator_stage()) is not None:
        say(f"severity: {stage.load(runtime).claim}")
    names_of: dict[int, list[str]] = {}
    for image_id, name in zip(measurement.ids.tolist(), measured.names, strict=True):
        names_of.setdefault(image_id, []).append(name)
    # images with equal content and parameters are the same for the solver
    ids = measurement.ids.tolist()
    first_of_each = {image_id: ids.index(image_id) for image_id in names_of}
    different = measurement.take(list(first_of_each.values())).to(runtime.device)
    done: dict[str, tuple[Found, dict[str, Any]]] = {}
    try:
        with runtime.progress.task(f"restoring {len(measured)} images") as update:
            for restored in restorer.restore(_batches(different, runtime.batch_size)):
                own = restored.measurement
                with torch.no_grad():
                    prediction = cell.degradation.A(restored.x_hat, own.params)
                residual = own.residual_rms(prediction).tolist()
                for i, image_id in enumerate(restored.ids.tolist()):
                    for name in names_of[image_id]:
                        outputs.write(name, restored.x_hat[i].cpu())
                        found = Found(
                            name,
                            residual[i],
                            float(own.noise_std[i]),
                            distrusted=bool(restored.distrusted[i]),
                            diverged=bool(restored.diverged[i]),
                        )
                        done[name] = found, _row(found, restored, i, cell)
                update(len(done), len(measured))
    finally:  # also list the images restored before an interruption
        rows = [done[name][1] for name in measured.names if name in done]
        if rows:
            outputs.write_report(rows)
        if len(rows) < len(measured):
            say(f"{len(rows)} of {len(measured)} images are in {outputs.folder}; add --overwrite to restore all")
    say(f"{len(rows)} image{'' if len(rows) == 1 else 's'} and {REPORT} in {outputs.folder}")
    verdict = judge([done[name][0] for name in measured.names])
    if verdict.line is not None:
        say(verdict.line)
    return verdict


def _measurement(
    cell: Evaluate, request: Request, measured: Measured, level: Tensor, smaller: bool, say: Callable[[str], None]
) -> tuple[Evaluate, Measurement]:
    """The images as measurements of the operator, and the cell with their noise level."""
    degradation, lines = cell.degradation, list[str]()
    levels = level.expand(len(measured)).clone()
    if request.params is None:
        levels, lines = severities(degradation, levels, measured)
    params, converted = parameters(degradation, request.params, levels, measured)
    lines += converted
    if smaller:
        check_sizes(degradation, params, measured)
    with torch.no_grad():
        made = degradation.A(measured.y[:1], {name: value[:1] for name, value in params.items()})
    if made.shape != measured.y[:1].shape:
        raise UserError(
            f"{degradation.kind} measures {tuple(measured.y.shape[1:])} images as {tuple(made.shape[1:])}, which are "
            "not image files: restore from Python, as in workbench.degradations.GivenPhysics"
        )
    # ids depend on the input: the same image with other parameters is a different one
    ids = distinct(torch.from_numpy(content_ids(measured.y.numpy())), params)
    with named(measured):
        measurement, converted = degradation.given_measurement(measured.y, levels, ids, params)
    lines += converted
    estimate = estimate_noise(measurement.y, measurement.observed)
    cell = _with_noise(cell, request, estimate)
    if (
        cell.degradation != degradation
    ):  # with another noise level it is a different operator, even with the same values
        measurement = cell.degradation.received(measurement.y, levels, ids, params, measurement.observed)
    lines.append(_noise_line(cell.degradation, request, measurement))
    if request.noise_std is None and (line := doubt(estimate, measurement.noise_std)):
        lines.append(line)
    measurement, num_clipped = unclipped(cell.degradation, measurement)
    if num_clipped:
        lines.append(
            f"{num_clipped} of {len(measured)} images have noise clipped at 0 and 1: the clipped values are estimated; "
            "float files (.npy, .npz or TIFF) preserve them"
        )
    for line in lines:
        say(line)
    return cell, measurement


def _with_noise(cell: Evaluate, request: Request, estimate: float | None) -> Evaluate:
    """The cell with the requested noise level."""
    level = request.noise_std
    if level is None:
        return cell
    if level == "auto":
        if estimate is None:
            raise UserError("--noise-std auto: too few neighbouring pixels are observed for an estimate: give a number")
        level = float(f"{estimate:.2g}")
    check_stated(cell.degradation, request.severity, level, estimated=request.noise_std == "auto")
    if isinstance(cell.degradation, GaussianNoise):
        return cell
    cell = with_noise(cell, level)
    cell.check_operators()  # a physics may have a contradicting noise model
    return cell


def _noise_line(degradation: Degradation, request: Request, measurement: Measurement) -> str:
    """The noise level and its source."""
    low, high = (float(end) for end in measurement.noise_std.aminmax())
    span = f"{low:.3g}" if high - low < 1e-6 else f"{low:.3g} to {high:.3g}"
    default = Degradation.model_fields["noise_std"].default
    stated = cast("float | None", degradation.noise_std)  # None: a physics may have a noise model
    if isinstance(degradation, GaussianNoise):
        who = "from the severity"
    elif request.noise_std is not None:
        who = "estimated from the images" if request.noise_std == "auto" else "as given"
    elif stated == default or (stated is None and abs(high - default) < 1e-6):
        who = "the default; set it with --noise-std (auto: estimate it)"
    else:
        who = "as given" if stated is not None else "from the physics' noise model"
    return f"noise of standard deviation {span} on [0, 1] images, {who}"


def _row(found: Found, restored: Restored, i: int, cell: Evaluate) -> dict[str, Any]:
    untrained = isinstance(cell.severity_encoder, NoEncoder)  # has no prediction
    return {
        "image": found.name,
        "sigma_hat": "" if untrained else float(restored.var_hat[i].sqrt()),
        "start_sigma": float(restored.start_variance[i].sqrt()),
        "distrusted": found.distrusted,
        "start_timestep": int(restored.start_timestep[i]),
        "nfe": int(restored.nfe[i]),
        "diverged": found.diverged,
        "seconds": round(float(restored.seconds[i]), 3),
        "noise_std": found.noise_std,
        "residual_ratio": found.residual / found.noise_std if found.noise_std else "",
    }


def _batches(measurement: Measurement, size: int) -> Iterator[Measurement]:
    for first in range(0, len(measurement), size):
        yield measurement.take(slice(first, first + size))
