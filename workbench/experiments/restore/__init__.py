"""Restore a user's own degraded images: pictures in, pictures out, with no truth.

What the user gives is read (pictures, parameters), made what the operator says it is (low_resolution, noise, clipping),
restored (run) and written (outputs), with what is known against it (verdict). `cell` names what restores.
"""

from workbench.experiments.restore.cell import UNIVERSAL, restoring_cell
from workbench.experiments.restore.run import Request, restore
from workbench.experiments.restore.verdict import CONTRADICTED

__all__ = ["CONTRADICTED", "UNIVERSAL", "Request", "restore", "restoring_cell"]
