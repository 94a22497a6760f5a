"""What a pretrained model costs on this machine: `doctor --model`."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from workbench.core.config import UserError
from workbench.core.encoder_choice import EncoderChoice
from workbench.degradations import GaussianNoise
from workbench.experiments.restore import restoring_cell
from workbench.experiments.restore.cell import load_restorer
from workbench.experiments.settings import with_model
from workbench.restoration import Restorer
from workbench.restoration.device_memory import free_memory, size_text
from workbench.restoration.engine import time_on
from workbench.restoration.memory import LEAST_SIDE, SHARE, step_memory
from workbench.solvers.base import Networks, middle_step
from workbench.stages.measure.count_cost import flops_of
from workbench.stages.measure.on_meta import Part, count, on_meta
from workbench.stages.runtime import Runtime
from workbench.weights.model import read_model

FEW, MANY = 1 / 12, 1 / 4
"""The part of the chain's steps that restorations from matched starts take, from mild to severe degradations of
photographs by the shipped pair."""


def print_model_costs(model: str, size: tuple[int, int] | None, overrides: Mapping[str, Any], runtime: Runtime) -> None:
    """Print weights, FLOPs, time and memory of each part, and of one step of the default solver.

    FLOPs and activations are counted without computing. Times are measured on small images, and scaled by FLOPs.

    Args:
        model: as `--model`.
        size: (height, width) of the images in pixels; None: the model's own.
        overrides: of the cell that restores.
    """
    from rich.table import Table

    if sized := sorted(path for path in overrides if path.startswith("data")):
        raise UserError(f"--{sized[0]} has no part in the costs of a model: --size sets the size of images")
    settings = with_model(overrides, model)
    own_size = read_model(str(settings["prior.source"]), settings.get("prior.revision")).image_size()
    settings = {**settings, "data.kind": "none", "data.size": own_size}
    restorer = load_restorer(restoring_cell("gaussian_blur", EncoderChoice.NONE, None, settings), runtime)
    base = restorer.autoencoder.downscale * restorer.prior.multiple
    height, width = (base * ceil(side / base) for side in size or (own_size, own_size))
    small = base * ceil(LEAST_SIDE / base)
    restorer.prior.check_latents(
        restorer.autoencoder.latent_shape((restorer.autoencoder.image_channels, height, width))
    )
    large_parts, small_parts = (_parts(restorer, s) for s in ((height, width), (small, small)))
    table = Table()
    for column in ("part", "million weights", "GFLOP", "with gradient", "activations", "ms", "ms with gradient"):
        table.add_column(column, justify="left" if column == "part" else "right")
    seconds: dict[str, float] = {}
    for name, part in large_parts.items():
        own = small_parts[name]
        plain, graded = _seconds(restorer, name, small)
        seconds[name] = plain * part.flops / own.flops
        seconds[f"{name}_grad"] = graded * part.flops_grad / own.flops_grad
        table.add_row(
            name,
            f"{part.parameters / 1e6:,.1f}",
            f"{part.flops / 1e9:,.1f}",
            f"{part.flops_grad / 1e9:,.1f}",
            size_text(part.activation_bytes),
            f"{1000 * seconds[name]:,.0f}",
            f"{1000 * seconds[f'{name}_grad']:,.0f}",
        )
    padded = "" if size is None or size == (height, width) else f" ({size[0]} x {size[1]}, padded)"
    where = f"{runtime.device}, {restorer.precision}"
    runtime.progress.say(f"{model}, one image of {height} x {width}{padded}, {where}:")
    runtime.progress.show(table)
    evaluations = _evaluations(restorer, small)
    flops = sum(number * flops_of(large_parts, name) for name, number in evaluations.items())
    taken = sum(
        number * seconds.get(name, seconds.get(name.replace("_backward", "_grad"), 0.0))
        for name, number in evaluations.items()
    )
    few, many = (max(1, round(part * restorer.sampler.num_steps)) for part in (FEW, MANY))
    runtime.progress.say(
        f"a step of {restorer.solver.kind}: {flops / 1e12:.3g} TFLOP, about {_seconds_text(taken)}; a restoration "
        f"takes some {few} to {many} of them from a matched start, {_seconds_text(few * taken)} to "
        f"{_seconds_text(many * taken)}"
    )
    runtime.progress.say(_memory_line(restorer, height * width))


def _parts(restorer: Restorer, size: tuple[int, int]) -> dict[str, Part]:
    """The cost of prior, decoder and encoder on an image of (height, width)."""
    autoencoder, prior = on_meta(restorer.autoencoder), on_meta(restorer.prior)
    calls = _calls(replace(restorer, autoencoder=autoencoder, prior=prior), size, torch.device("meta"))
    networks: dict[str, nn.Module] = {"prior": prior, "decoder": autoencoder, "encoder": autoencoder}
    return {name: count(networks[name], call, argument) for name, (call, argument) in calls.items()}


def _calls(
    restorer: Restorer, size: tuple[int, int], device: torch.device
) -> dict[str, tuple[Callable[[Tensor], Tensor], Tensor]]:
    """One evaluation of each network, and its argument."""
    autoencoder, prior = restorer.autoencoder, restorer.prior
    shape = (autoencoder.image_channels, *size)
    x = torch.zeros(1, *shape, device=device)
    z = torch.zeros(1, *autoencoder.latent_shape(shape), device=device)
    middle = prior.levels.times(3, autoencoder.latent_shape(shape))[1:2]
    networks = restorer.networks()
    if device.type == "meta":  # which has no autocast
        networks = replace(networks, precision="float32")
    return {
        "prior": (lambda z: networks.predict(z, middle)[0], z),
        "decoder": (networks.decode, z),
        "encoder": (autoencoder.encode, x),
    }


def _seconds(restorer: Restorer, name: str, side: int) -> tuple[float, float]:
    """The time of an evaluation of a network on this machine, and with the gradient; the better of two."""
    device = next(restorer.autoencoder.parameters()).device
    call, argument = _calls(restorer, (side, side), device)[name]

    def graded() -> None:
        with torch.enable_grad():
            call(argument.clone().requires_grad_(True)).sum().backward()

    def plain() -> None:
        with torch.no_grad():
            call(argument)

    def timed(work: Callable[[], None]) -> float:
        started = time_on(device)
        work()
        return time_on(device) - started

    return min(timed(plain) for _ in range(2)), min(timed(graded) for _ in range(2))


def _evaluations(restorer: Restorer, side: int) -> Counter[str]:
    """The evaluations in a step of the solver, by their names in accounts."""
    device = next(restorer.autoencoder.parameters()).device
    operator, spent = GaussianNoise(), Counter[str]()
    x = torch.full((1, restorer.autoencoder.image_channels, side, side), 0.5)
    measurement = operator.measure(x, torch.full((1,), 0.5), torch.zeros(1, dtype=torch.int64), 0).to(device)
    z = torch.zeros(1, *restorer.autoencoder.latent_shape((x.shape[1], side, side)), device=device)
    networks = Networks(restorer.autoencoder, restorer.prior, operator, [spent])
    restorer.solver.step(middle_step(z, measurement, networks, restorer.sampler))
    return spent


def _memory_line(restorer: Restorer, num_pixels: int) -> str:
    """Memory of a step, and whether it fits."""
    free = free_memory(next(restorer.autoencoder.parameters()).device)
    kept, again = (step_memory(replace(restorer, checkpointing=c)).of(num_pixels) for c in (False, True))
    needs = f"memory of a step: about {size_text(kept)}, or {size_text(again)} if activations are computed again"
    if free is None:
        return needs
    fits = "fits" if kept <= SHARE * free else "fits if they are" if again <= SHARE * free else "does not fit"
    return f"{needs}; {size_text(free)} are free: {fits}"


def _seconds_text(seconds: float) -> str:
    """A duration, to two digits."""
    if seconds < 1:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2f} s"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
