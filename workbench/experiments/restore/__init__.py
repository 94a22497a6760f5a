"""Restore a user's own degraded images, without ground truth.

The user's input is read (pictures, parameters), prepared for the operator (low_resolution, noise, clipping), restored
(run), written (outputs) and checked for contradictions (verdict). `cell` defines the networks and settings.
"""

from workbench.experiments.restore.cell import UNIVERSAL, restoring_cell
from workbench.experiments.restore.run import Request, restore
from workbench.experiments.restore.verdict import CONTRADICTED

__all__ = ["CONTRADICTED", "UNIVERSAL", "Request", "restore", "restoring_cell"]
