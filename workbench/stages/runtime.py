"""Where and how stages run: the runs folder, the device, batch size, progress and records for W&B."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.core.bounds import MAX_BATCH
from workbench.core.config import UserError, require_range
from workbench.core.progress import Progress, Silent
from workbench.tracking.tracker import Tracker

if TYPE_CHECKING:  # torch reads the number of threads when it is loaded, which processes set first
    from torch import nn

    from workbench.core.ranks import Node, Rank

Network = TypeVar("Network", bound="nn.Module")


@dataclass(frozen=True)
class Runtime:
    """Where and how stages run; nothing here may change a result.

    Attributes:
        root: the runs folder.
        device: a torch device.
        batch_size: number of images that the engine restores at once.
        rerun: recompute damaged or outdated cache entries, instead of raising an error or using them.
        progress: shows the progress.
        tracker: receives a record of every stage, for W&B.
        loaded: objects that stages share, such as networks, by stage identity, so that each is loaded once.
        devices: all devices that a stage may use at once, `device` first; (): `device` alone.
        node: this machine, if it is one of several that train together, each on as many devices.
        rank: this process's place in a training on several devices.
        meet: a queue that tells rank 0, on the same machine, of this process: None when it is about to train, else
            why it fails.
    """

    root: Path
    device: str = "cpu"
    batch_size: int = 64
    rerun: bool = False
    progress: Progress = field(default_factory=Silent)
    tracker: Tracker = field(default_factory=Tracker)
    loaded: dict[str, Any] = field(default_factory=dict, repr=False)
    devices: tuple[str, ...] = ()
    node: "Node | None" = None
    rank: "Rank | None" = None
    meet: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_range("the batch size", self.batch_size, 1, MAX_BATCH)

    @property
    def num_ranks(self) -> int:
        """On how many devices a network is trained."""
        nodes = 1 if self.node is None else self.node.of
        return max(1, len(self.devices)) * nodes if self.rank is None else self.rank.size

    def require_writable(self) -> None:
        """Create the runs folder if it does not exist; raise UserError if it is not writable."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(
                dir=self.root
            ):  # without a name if the system supports it, so that a kill leaves nothing
                pass
        except OSError as error:
            raise UserError(
                f"the runs folder {self.root} is not writable ({error.strerror}): choose another with --runs"
            ) from None

    def place(self, network: Network) -> Network:
        """Move a network to the device, like the function `place`."""
        return place(network, self.device)


def place(network: Network, device: str) -> Network:
    """Move a network to a device, with the fastest memory layout of its weights.

    Convolutions prefer channels last; on a CPU, group norms lose more by that layout than convolutions gain.
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
        torch.zeros(1, device=name).item()  # a device name may be valid without a driver: only using it shows that
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise UserError(f"device {name!r} cannot be used: {reason}") from None
    return name


def choose_devices(name: str, number: int) -> tuple[str, ...]:
    """That many devices of a kind: GPUs, or shares of the processor.

    Raises:
        UserError: if there are fewer, or the name is that of one device.
    """
    import torch

    if number == 1:
        return (choose_device(name),)
    if ":" in name:
        raise UserError(f"--device={name} is one device: leave it out, or use --device=cuda with --devices={number}")
    kind = choose_device(name)
    if kind == "cpu":
        return (kind,) * number
    if kind != "cuda":
        raise UserError(f"several devices of the kind {kind!r} are not supported: leave out --devices")
    if (there := torch.cuda.device_count()) < number:
        raise UserError(f"--devices={number}: there {'is' if there == 1 else 'are'} {there} here")
    return tuple(f"cuda:{i}" for i in range(number))


def native_bf16(device: str) -> bool:
    """Whether the device computes bf16 in hardware; emulation is many times slower than float32."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    text = flags.read_text() if flags.is_file() else ""
    return "avx512_bf16" in text or "amx_bf16" in text
