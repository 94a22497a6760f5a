"""Where data and results lie, for a notebook in a folder of its own as for the command line."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
"""The clone that the package is used from."""


def place(variable: str, name: str) -> Path:
    """The folder in the environment's `variable`; else ./`name` where there is one; else the one in the clone.

    A package that is not used from a clone has ./`name` only.
    """
    here = Path(name)
    if given := os.environ.get(variable):
        return at_home(given)
    return here if here.is_dir() or not (CHECKOUT / "pyproject.toml").is_file() else CHECKOUT / name


def runs_root() -> Path:
    """The runs folder: $WORKBENCH_RUNS, else ./runs, else that of the clone."""
    return place("WORKBENCH_RUNS", "runs")


def data_root() -> Path:
    """The folder that data is put into: $WORKBENCH_DATA, else ./data, else that of the clone."""
    return place("WORKBENCH_DATA", "data")


def at_home(path: str | Path) -> Path:
    """The path with a leading ~ as the home folder, which the shell leaves as it is in --name=~/x."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # of a user whom there is not: a folder may be called ~x
        return Path(path)
