"""A batch of measurements: y and everything that belongs to each image.

Complex measurements (MRI, interferometry) follow one rule: y is real, and `as_real` turns a complex y of shape
(batch, ...) into (batch, ..., 2) with real and imaginary parts. Both parts count as entries: norms and inner products
are those of the complex values, `num_observed` counts two entries per complex value, and `noise_std` is the standard
deviation of each part. This matches deepinv's MRI, whose y is real with the two parts as channels. (deepinv's
GaussianNoise on a complex torch tensor refers to the complex value: sigma / sqrt(2) for each part.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities

MEMBER = "member"
"""The parameter that says which operator of a mixture measured an image."""


@dataclass(frozen=True)
class Measurement:
    """y = A(x; params) + noise for a batch of images. The first dimension of every tensor is the image.

    Operator parameters are stored here and passed to the operator at every call, because an operator object that
    remembered the last ones would fail on a subset of the batch.

    Attributes:
        y: the measurement, on the scale of [0, 1] images; real (see the module's docstring for complex ones).
        ids: content hashes of the images; they key all later draws.
        noise_std: standard deviation of the noise in each entry of y, per image, on [0, 1].
        params: per-image operator parameters by name (a blur kernel, a mask ...).
        observed: 1 where y was measured and 0 where it is padding or dropped, broadcastable to y; None: all of y.
        severity: the true level in [0, 1]; None if unknown (a user's own measurement).
        view: the image-domain view of y if y is not an image (CT, MRI); None: y is its own view.
    """

    y: Measurements
    ids: Ids
    noise_std: Scalars
    params: Mapping[str, Tensor] = field(default_factory=dict)
    observed: Tensor | None = None
    severity: Severities | None = None
    view: Images | None = None

    def __post_init__(self) -> None:
        if self.y.is_complex():
            raise ValueError("measurement.y is complex: convert it with workbench.core.measurement.as_real")
        for name, tensor in self._tensors().items():
            if tensor.shape[:1] != self.y.shape[:1]:
                raise ValueError(
                    f"measurement.{name} has {tuple(tensor.shape)}, expected {len(self)} images as first dimension"
                )

    def __len__(self) -> int:
        return self.y.shape[0]

    @property
    def operator(self) -> Tensor | None:
        """Which operator of a mixture measured each image, (batch,) int64; None if there is one for all."""
        return self.params.get(MEMBER)

    def encoder_input(self) -> Images:
        """The image-domain view of y that a severity encoder reads, (batch, channel, height, width)."""
        return self.y if self.view is None else self.view

    def residual(self, prediction: Measurements) -> Measurements:
        """y - prediction, zero where y was not observed."""
        difference = self.y - prediction
        return difference if self.observed is None else difference * self.observed

    def residual_rms(self, prediction: Measurements) -> Scalars:
        """Root mean square of y - prediction over the observed entries, per image."""
        return (self.residual(prediction).flatten(1).square().sum(1) / self.num_observed()).sqrt()

    def num_observed(self) -> Scalars:
        """Number of observed entries of y, per image."""
        if self.observed is None:
            return torch.full((len(self),), float(self.y.shape[1:].numel()), device=self.y.device)
        return self.observed.expand_as(self.y).flatten(1).sum(1, dtype=self.y.dtype)

    def take(self, index: Tensor | Sequence[int] | slice) -> Self:
        """The measurements of the images at `index`."""
        if not isinstance(index, Tensor | slice):
            index = torch.as_tensor(index, dtype=torch.int64)
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Self:
        """Copy the measurements to another device."""
        return self._map(lambda tensor: tensor.to(device))

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Concatenate batches of the same operator.

        Raises:
            ValueError: if there are none, or the parts have different fields.
        """
        if not parts:
            raise ValueError("no measurements to join")
        names = parts[0]._tensors().keys()
        for part in parts[1:]:
            if part._tensors().keys() != names:
                raise ValueError(f"measurements have different fields: {sorted(names)} and {sorted(part._tensors())}")
        joined = {name: torch.cat([part._tensors()[name] for part in parts]) for name in names}
        return cls._from_tensors(joined)

    def _tensors(self) -> dict[str, Tensor]:
        """Every tensor by a flat name, with parameters as `params.NAME`."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "params"}
        own |= {f"params.{name}": value for name, value in self.params.items()}
        return {name: value for name, value in own.items() if value is not None}

    @classmethod
    def _from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        own = {name: value for name, value in tensors.items() if not name.startswith("params.")}
        params = {name.removeprefix("params."): value for name, value in tensors.items() if name.startswith("params.")}
        return cls(params=params, **own)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        return self._from_tensors({name: change(value) for name, value in self._tensors().items()})

    def with_params(self, **params: Tensor) -> Self:
        """A copy with operator parameters added or replaced."""
        return replace(self, params={**self.params, **params})


def as_real(y: Tensor) -> Measurements:
    """A complex y, (batch, ...), as real and imaginary parts, (batch, ..., 2); a real y is returned as it is."""
    return torch.view_as_real(y.resolve_conj()) if y.is_complex() else y
