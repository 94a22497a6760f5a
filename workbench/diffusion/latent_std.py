"""The standard deviation of a pretrained model's latents, measured on images or on samples of its prior, and stored."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from workbench.core.config import UserError
from workbench.core.tensors import Latents

FILE = "latent_std.json"
DEPARTURE = 1.25
"""The factor by which a channel's standard deviation may differ from the overall one before it is reported."""


@dataclass(frozen=True)
class LatentStd:
    """The standard deviation c of a network's clean latents, over all elements, and of each channel."""

    std: float = 1.0
    by_channel: tuple[float, ...] = ()

    @classmethod
    def measured(cls, latents: Latents) -> Self:
        """Measured on these latents: of images, scaled as for the network, or samples of the prior."""
        channels = latents.double().transpose(0, 1).flatten(1)
        return cls(float(channels.std()), tuple(channels.std(1).tolist()))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the record in a model's folder; unit variance if there is none.

        Raises:
            UserError: if the record is invalid.
        """
        path = folder / FILE
        if not path.is_file():
            return cls()
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            found = cls(float(stored["std"]), tuple(map(float, stored["by_channel"])))
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
        if not all(0 < value < math.inf for value in (found.std, *found.by_channel)):
            raise UserError(f"{path}: standard deviations must be positive and finite")
        return found

    def save(self, folder: Path) -> None:
        """Store it in the model's folder."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    def notes(self) -> tuple[str, ...]:
        """A message about channels that differ from the rest: one factor gives unit variance only on average."""
        odd = [s for s in self.by_channel if not 1 / DEPARTURE <= s / self.std <= DEPARTURE]
        if not odd:
            return ()
        listed = ", ".join(f"{s / self.std:.2g}" for s in self.by_channel)
        return (
            f"latent channels have {listed} times the overall standard deviation, but start rules assume equal ones",
        )
