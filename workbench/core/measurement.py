"""A batch of measurements: y and all that belongs to each of its images.

One rule for complex measurements (MRI, interferometry): y is real, and a complex y of shape (batch, ...) is carried as
`as_real` makes it, (batch, ..., 2) with real and imaginary part. Both parts count as entries: norms and inner products
are those of the complex values, `num_observed` counts two for each complex value, and `noise_std` is the standard
deviation of each part, as deepinv's MRI has it, whose y is real with the two parts as channels. (deepinv's
GaussianNoise on a torch complex tensor means the complex value: sigma / sqrt(2) for each part.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities


@dataclass(frozen=True)
class Measurement:
    """y = A(x; params) + noise for a batch of images. Every tensor's first dimension is the image.

    Operator parameters live here and are passed to the operator at every call, since an operator object that
    remembered the last ones would fail on a subset of the batch.

    Attributes:
        y: the measurement, on the scale of [0, 1] images; real (see the module for complex ones).
        ids: content hashes of the images; they key every later draw.
        noise_std: standard deviation of the noise in each entry of y, per image, on [0, 1].
        params: per-image operator parameters by name (a blur kernel, a mask ...).
        observed: 1 where y was measured and 0 where it is only padding or dropped, broadcastable to y; None: all of y.
        severity: the true level in [0, 1]; None where it is not known (a user's own measurement).
        view: the image-domain view of y where y is no image (CT, MRI); None: y is its own view.
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
            raise ValueError("measurement.y is complex: carry it as workbench.core.measurement.as_real makes it")
        for name, tensor in self._tensors().items():
            if tensor.shape[:1] != self.y.shape[:1]:
                raise ValueError(f"measurement.{name} has {tuple(tensor.shape)}, expected {len(self)} images first")

    def __len__(self) -> int:
        return self.y.shape[0]

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
        """How many entries of y were observed, per image."""
        if self.observed is None:
            return torch.full((len(self),), float(self.y.shape[1:].numel()), device=self.y.device)
        return self.observed.expand_as(self.y).flatten(1).sum(1, dtype=self.y.dtype)

    def take(self, index: Tensor | Sequence[int] | slice) -> Self:
        """The measurements of the images at `index`."""
        if not isinstance(index, Tensor | slice):
            index = torch.as_tensor(index, dtype=torch.int64)
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Self:
        """The same measurements on another device."""
        return self._map(lambda tensor: tensor.to(device))

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Join batches of the same operator.

        Raises:
            ValueError: if there is none, or one part lacks what another has.
        """
        if not parts:
            raise ValueError("no measurements to join")
        names = parts[0]._tensors().keys()
        for part in parts[1:]:
            if part._tensors().keys() != names:
                raise ValueError(f"measurements of different make: {sorted(names)} and {sorted(part._tensors())}")
        joined = {name: torch.cat([part._tensors()[name] for part in parts]) for name in names}
        return cls._from_tensors(joined)

    def _tensors(self) -> dict[str, Tensor]:
        """Every tensor by a flat name, parameters as `params.NAME`."""
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
        """A copy with operator parameters added or changed."""
        return replace(self, params={**self.params, **params})


def as_real(y: Tensor) -> Measurements:
    """A complex y, (batch, ...), as real and imaginary part, (batch, ..., 2); a real y as it is."""
    return torch.view_as_real(y.resolve_conj()) if y.is_complex() else y
