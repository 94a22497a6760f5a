"""Where and how stages run: the runs folder, the device, batches, progress and records for W&B."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.bounds import MAX_BATCH
from workbench.config import UserError, require_range
from workbench.progress import Progress, Silent
from workbench.tracking.tracker import Tracker

if TYPE_CHECKING:
    from torch import nn

Network = TypeVar("Network", bound="nn.Module")


@dataclass(frozen=True)
class Runtime:
    """Where and how stages run; nothing here may change a result.

    Attributes:
        root: the runs folder.
        device: a torch device.
        batch_size: images that the engine works on at once.
        rerun: recompute cache entries that are damaged or outdated, instead of stopping at them or using them.
        progress: shows what is going on.
        tracker: takes a record of every stage, for W&B.
        loaded: what stages share, such as networks, by stage identity, so that each is read once.
    """

    root: Path
    device: str = "cpu"
    batch_size: int = 64
    rerun: bool = False
    progress: Progress = field(default_factory=Silent)
    tracker: Tracker = field(default_factory=Tracker)
    loaded: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        require_range("the batch size", self.batch_size, 1, MAX_BATCH)

    def require_writable(self) -> None:
        """Make the runs folder if it is not there, and refuse one that nothing can be written to. Raises UserError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):  # without a name where the system can: a kill leaves nothing
                pass
        except OSError as error:
            raise UserError(
                f"the runs folder {self.root} is not writable ({error.strerror}); name another by --runs"
            ) from None

    def place(self, network: Network) -> Network:
        """Move a network to the device, as `place` does."""
        return place(network, self.device)


def place(network: Network, device: str) -> Network:
    """Move a network to a device, its weights in the order in which it runs fastest.

    Convolutions prefer channels last; on a CPU, group norms lose more by that order than convolutions gain.
    """
    import torch

    grouped = device == "cpu" and any(isinstance(module, torch.nn.GroupNorm) for module in network.modules())
    return network.to(device).to(memory_format=torch.contiguous_format if grouped else torch.channels_last)


def choose_device(name: str) -> str:
    """The torch device of that name; "auto": a GPU if there is one.

    Raises:
        UserError: if it cannot be used.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # a device may have a name and no driver: only use shows it
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise UserError(f"device {name!r} cannot be used: {reason}") from None
    return name
