"""The record of one image during its restoration, and groups of finished images."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from workbench.core.measurement import Measurement
from workbench.core.tensors import Ids, Images


@dataclass
class Record:
    """One image from its measurement to its row. Estimate, start and engine write to it and charge their costs to it.

    Attributes:
        image_id: content hash of the image.
        z0: the clean latent; None if nothing has asked for it, and for a user's own images.
        z_hat: the severity encoder's estimate of z0, (channel, height, width).
        var_hat: its predicted error variance; the mean, if the variance is per channel or per element.
        start_variance: the error variance that the start rule matched; NaN if it matches none.
        distrusted: whether the residual contradicted the severity encoder, if the start rule checks it.
        start_timestep: the network time of the first evaluation (`Chain.recorded_time`); -1 if there was none.
        fell_back: whether the chain started from pure noise because the start rule could not use z_hat.
        diverged: whether the latent exceeded all bounds; it is then the latent before that step.
        evaluations: number of evaluations of each network, with gradients counted separately ("prior", "prior_grad"
            ...).
        flops: FLOPs of all networks, including gradients but not the operator.
        seconds: the image's share of the wall time.
        start_seconds: the part of `seconds` spent on the estimate and the start.
        draw: which of several draws of the noise gave the image; costs are those of all.
        generator, entered: generator of the image's noise and its first position in the grid, set by the engine.
    """

    image_id: int
    z0: Tensor | None = None
    z_hat: Tensor = field(default_factory=lambda: torch.empty(0))
    var_hat: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    start_variance: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    distrusted: bool = False
    start_timestep: Tensor = field(default_factory=lambda: torch.tensor(-1))
    fell_back: bool = False
    diverged: bool = False
    evaluations: Counter[str] = field(default_factory=Counter)
    flops: float = 0.0
    seconds: float = 0.0
    start_seconds: float = 0.0
    draw: int = 0
    generator: torch.Generator | None = None
    entered: int = 0

    @property
    def nfe(self) -> int:
        """Number of evaluations of the prior."""
        return self._evaluations("prior")

    @property
    def decoder_evals(self) -> int:
        """Evaluations of D."""
        return self._evaluations("decoder")

    @property
    def encoder_evals(self) -> int:
        """Number of evaluations of E, including the severity encoder."""
        return self._evaluations("encoder") + self._evaluations("severity_encoder")

    def _evaluations(self, network: str) -> int:
        return self.evaluations[network] + self.evaluations[f"{network}_grad"]


class Column:
    """A field of all records as one tensor, with images along the first axis."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, restored: "Restored | None", owner: type) -> Tensor:
        if restored is None:
            raise AttributeError(self.name)  # access on the class: tells dataclasses that there is no default
        values: list[Any] = [getattr(record, self.name) for record in restored.records]
        return torch.stack(values) if isinstance(values[0], Tensor) else torch.tensor(values)


@dataclass(frozen=True)
class Restored:
    """A group of finished images, at least one, with their records; columns are named as in `Record`.

    Attributes:
        measurement: the measurements of the images.
        x_hat: the restored images on [0, 1].
        records: their records, in the same order.
    """

    measurement: Measurement
    x_hat: Images
    records: Sequence[Record]

    z_hat = Column()
    var_hat = Column()
    start_variance = Column()
    distrusted = Column()
    start_timestep = Column()
    fell_back = Column()
    diverged = Column()
    nfe = Column()
    decoder_evals = Column()
    encoder_evals = Column()
    flops = Column()
    seconds = Column()
    start_seconds = Column()
    draw = Column()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def ids(self) -> Ids:
        """Content hashes of the images."""
        return self.measurement.ids

    @classmethod
    def joined(cls, parts: Sequence[Self], order: Ids) -> Self:
        """All images of the parts, in the order of these ids."""
        records = [record for part in parts for record in part.records]
        place = {record.image_id: i for i, record in enumerate(records)}
        index = [place[image_id] for image_id in order.tolist()]
        measurement = Measurement.cat([part.measurement for part in parts])
        x_hat = torch.cat([part.x_hat for part in parts])
        return cls(measurement.take(index), x_hat[index], [records[i] for i in index])
