"""The commands. Only light modules are imported here; each command imports what it needs when it runs."""

from workbench.cli import machine, models, pictures, search, studies
from workbench.cli.options import UsageError, app

__all__ = ["UsageError", "app", "machine", "models", "pictures", "search", "studies"]
