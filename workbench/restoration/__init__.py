"""Flash-Diffusion itself: from measurements to restored images, with one record per image."""

from workbench.restoration.engine import Batch, Engine
from workbench.restoration.record import Record, Restored
from workbench.restoration.restorer import Restorer

__all__ = ["Batch", "Engine", "Record", "Restored", "Restorer"]
