"""Flash-Diffusion itself: from measurements to restored images, with a record of each."""

from workbench.restoration.engine import Batch, Engine
from workbench.restoration.record import Record, Restored
from workbench.restoration.restorer import Restorer

__all__ = ["Batch", "Engine", "Record", "Restored", "Restorer"]
