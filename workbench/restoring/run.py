"""From pictures to restored pictures: everything is checked first, then computed, written and judged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from workbench.config import UserError
from workbench.data.base import content_ids
from workbench.degradations import Degradation, GaussianNoise
from workbench.degradations.base import check_severity
from workbench.measurement import Measurement
from workbench.restoration import Restored
from workbench.restoring.cell import with_noise
from workbench.restoring.clipping import unclipped
from workbench.restoring.low_resolution import check_sizes, makes_smaller, severities
from workbench.restoring.noise import check_stated, doubt, estimate_noise
from workbench.restoring.outputs import REPORT, Format, Outputs
from workbench.restoring.parameters import distinct, named, parameters
from workbench.restoring.pictures import Measured, read_measured
from workbench.restoring.verdict import Found, Verdict, judge
from workbench.severity.untrained import NoEncoder
from workbench.stages.evaluate import Evaluate
from workbench.stages.runtime import Runtime


@dataclass(frozen=True)
class Request:
    """What a user asks to be restored.

    Attributes:
        pictures: a folder of pictures, one picture, or an .npy or .npz of several.
        output: the folder that they go to.
        severity: the operator's level in [0, 1], for all pictures.
        params: .npz with the operator's parameters; needed where the operator draws them at random (a mask, a kernel).
        noise_std: standard deviation of the noise on [0, 1] images; auto: estimated; None: what the cell says.
        overwrite: whether files in the output folder may be replaced.
        file_format: of the restored images.
    """

    pictures: Path
    output: Path
    severity: float
    params: Path | None = None
    noise_std: float | Literal["auto"] | None = None
    overwrite: bool = False
    file_format: Format = "png"


def restore(cell: Evaluate, request: Request, runtime: Runtime) -> Verdict:
    """Restore every picture into the output folder, with a table of severity, start, cost and residual.

    Args:
        cell: names the networks, the operator, the start rule and the solver.

    Returns:
        What is known against the restored images; its line has been said.

    Raises:
        UserError: for a severity outside [0, 1], pictures that cannot be read or are of another size, parameters that
            are missing or do not fit, a y that contradicts them, or an output folder that cannot be written.
    """

    def say(line: str) -> None:
        runtime.progress.say(line.replace("\n", "\\n"))  # a name may hold line breaks

    level = torch.full((1,), float(request.severity), dtype=torch.float64).float()  # one too large for it is infinite
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
    names_of: dict[int, list[str]] = {}
    for image_id, name in zip(measurement.ids.tolist(), measured.names, strict=True):
        names_of.setdefault(image_id, []).append(name)
    # pictures of equal content and parameters are one to the solver
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
    finally:  # what is restored before an end is listed too
        rows = [done[name][1] for name in measured.names if name in done]
        if rows:
            outputs.write_report(rows)
        if len(rows) < len(measured):
            say(f"{len(rows)} of {len(measured)} images are in {outputs.folder}: to restore all, add --overwrite")
    say(f"{len(rows)} image{'' if len(rows) == 1 else 's'} and {REPORT} in {outputs.folder}")
    verdict = judge([done[name][0] for name in measured.names])
    if verdict.line is not None:
        say(verdict.line)
    return verdict


def _measurement(
    cell: Evaluate, request: Request, measured: Measured, level: Tensor, smaller: bool, say: Callable[[str], None]
) -> tuple[Evaluate, Measurement]:
    """The pictures as the operator makes them, and the cell with the noise that they hold."""
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
            "no pictures in a folder: restore them from Python, as workbench.degradations.GivenPhysics shows"
        )
    # named by what was given: one picture with other parameters is another image
    ids = distinct(torch.from_numpy(content_ids(measured.y.numpy())), params)
    with named(measured):
        measurement, converted = degradation.given_measurement(measured.y, levels, ids, params)
    lines += converted
    estimate = estimate_noise(measurement.y, measurement.observed)
    cell = _with_noise(cell, request, estimate)
    if cell.degradation != degradation:  # with another noise it is another operator, though of the same values
        measurement = cell.degradation.received(measurement.y, levels, ids, params, measurement.observed)
    lines.append(_noise_line(cell.degradation, request, measurement))
    if request.noise_std is None and (line := doubt(estimate, measurement.noise_std)):
        lines.append(line)
    measurement, num_clipped = unclipped(cell.degradation, measurement)
    if num_clipped:
        lines.append(
            f"{num_clipped} of {len(measured)} pictures have noise clipped at 0 and 1: what lies beyond is estimated; "
            "floats in .npy, .npz or TIFF keep it"
        )
    for line in lines:
        say(line)
    return cell, measurement


def _with_noise(cell: Evaluate, request: Request, estimate: float | None) -> Evaluate:
    """The cell with the level of noise that is asked for."""
    level = request.noise_std
    if level is None:
        return cell
    if level == "auto":
        if estimate is None:
            raise UserError(
                "--noise-std auto: too few neighbouring pixels are observed to estimate from: give a number"
            )
        level = float(f"{estimate:.2g}")
    check_stated(cell.degradation, request.severity, level, estimated=request.noise_std == "auto")
    if isinstance(cell.degradation, GaussianNoise):
        return cell
    cell = with_noise(cell, level)
    cell.check_operators()  # a physics may have a noise model that says otherwise
    return cell


def _noise_line(degradation: Degradation, request: Request, measurement: Measurement) -> str:
    """What level of noise is taken, and who says so."""
    low, high = (float(end) for end in measurement.noise_std.aminmax())
    span = f"{low:.3g}" if high - low < 1e-6 else f"{low:.3g} to {high:.3g}"
    default = Degradation.model_fields["noise_std"].default
    stated = cast("float | None", degradation.noise_std)  # none: a physics may have a noise model
    if isinstance(degradation, GaussianNoise):
        who = "by the severity"
    elif request.noise_std is not None:
        who = "estimated from the pictures" if request.noise_std == "auto" else "as given"
    elif stated == default or (stated is None and abs(high - default) < 1e-6):
        who = "assumed; give another by --noise-std (auto: estimated)"
    else:
        who = "as given" if stated is not None else "by the physics' own noise model"
    return f"noise of standard deviation {span} on [0, 1] images, {who}"


def _row(found: Found, restored: Restored, i: int, cell: Evaluate) -> dict[str, Any]:
    untrained = isinstance(cell.severity_encoder, NoEncoder)  # predicts nothing
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
