"""The user's files as measurements of the operator: pictures, or arrays of what is no picture."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.measurement import Measurement, as_real
from workbench.data.base import content_ids
from workbench.degradations import Degradation
from workbench.experiments.restore.low_resolution import check_sizes, makes_smaller, on_canvas
from workbench.experiments.restore.parameters import Given, distinct, named, parameters
from workbench.experiments.restore.pictures import Input


@dataclass(frozen=True)
class Group:
    """Images of one shape, as measurements of the operator."""

    names: tuple[str, ...]
    measurement: Measurement

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channel, height, width)."""
        _, channels, height, width = self.measurement.encoder_input().shape
        return channels, height, width

    def of_image(self) -> Mapping[str, Tensor]:
        """What tells images with the same y apart."""
        assert self.measurement.severity is not None
        return {**self.measurement.params, "severity": self.measurement.severity}

    def without(self, names: Container[str]) -> "Group | None":
        """The other images; None if there are none."""
        left = [i for i, name in enumerate(self.names) if name not in names]
        if len(left) == len(self.names):
            return self
        return Group(tuple(self.names[i] for i in left), self.measurement.take(left)) if left else None


def as_measurements(
    degradation: Degradation, images: Input, given: Given | None, severity: float | None, *, gradient: bool
) -> tuple[list[Group], list[str]]:
    """The images as measurements of the operator, those of one shape together, and messages for the user.

    Args:
        given: the operator's parameters from the user.
        severity: its level; None: the parameters tell it.
        gradient: whether the solver needs one.
    """
    lines, groups = [], []
    if given is None and degradation.measures_images:
        severity = _stated(degradation, severity)
    smaller = makes_smaller(degradation) and not (given is None and degradation.draws_parameters)
    for low in images.groups:
        measured = low
        if smaller:
            own = {} if given is None else given.stacked(low.names)
            measured, converted = on_canvas(degradation, _stated(degradation, severity), own, low)
            lines += converted
        image_shape = degradation.image_shape(measured.y)
        degradation.check(image_shape, gradient=gradient)
        levels = None if severity is None else torch.full((len(measured),), severity)
        params, converted = parameters(degradation, given, levels, measured)
        lines += converted
        found = None if given is None else degradation.severity_of(params)
        if found is None:
            levels = torch.full((len(measured),), _stated(degradation, severity))
        elif severity is not None and float((found - severity).abs().max()) > CLOSE:
            lines.append(
                f"the parameters have severity {float(found.mean()):.3g}, which is used instead of {severity:g}"
            )
        levels = found if found is not None else levels
        assert levels is not None
        if smaller:
            check_sizes(degradation, params, low, measured)
        if degradation.measures_images:
            with torch.no_grad():
                made = degradation.A(measured.y[:1], {name: value[:1] for name, value in params.items()})
            if made.shape[1:] != measured.y.shape[1:]:
                raise UserError(
                    f"{degradation.kind} measures {image_shape} images as {tuple(made.shape[1:])}, which are not image "
                    "files: restore from Python, as in workbench.degradations.GivenPhysics"
                )
        # ids depend on the input: the same image with other parameters is a different one
        ids = distinct(torch.from_numpy(content_ids(as_real(measured.y).numpy())), params)
        with named(measured):
            measurement, converted = degradation.given_measurement(measured.y, levels, ids, params)
        lines += converted
        groups.append(Group(measured.names, measurement))
    return groups, lines


CLOSE = 0.05
"""Parameters are rounded: to whole columns, views, grey levels."""


def _stated(degradation: Degradation, severity: float | None) -> float:
    if severity is None:
        raise UserError(f"--severity is missing: the level of {degradation.kind} in [0, 1]")
    return severity
