"""Whether runs are uploaded to W&B's server, kept offline, or not created."""

import os
from typing import Any, Literal

from workbench.core.config import UserError

Mode = Literal["online", "offline", "disabled"]

MODES: dict[str, Mode] = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
"""Values of $WANDB_MODE, and their meaning."""


def stated_mode() -> Mode | None:
    """The mode in $WANDB_MODE; None if it is not set.

    Raises:
        UserError: if it is not a valid mode.
    """
    name = os.environ.get("WANDB_MODE")
    if not name:
        return None
    if name not in MODES:
        raise UserError(f"WANDB_MODE is {name!r}: set it to online, offline or disabled, or unset it")
    return MODES[name]


def require_online(why: str) -> None:
    """Raise an error if access to W&B's server is switched off.

    Raises:
        UserError: if $WANDB_MODE or W&B's own settings say so.
    """
    if stated_mode() in ("offline", "disabled"):
        raise UserError(f"WANDB_MODE is {os.environ['WANDB_MODE']}, but {why}: unset it, or set it to online")
    if _settings().mode in ("offline", "dryrun", "disabled"):
        raise UserError(f"W&B is disabled by its settings, but {why}: run `wandb online`")


def wandb_mode() -> Mode:
    """The mode in $WANDB_MODE; else online if the user is logged in; else offline.

    Raises:
        UserError: if $WANDB_MODE is not a valid mode.
    """
    if (stated := stated_mode()) is not None:
        return stated
    _settings()
    import wandb

    try:
        return "online" if wandb.login(prompt=False, verify=False) else "offline"
    except wandb.errors.AuthenticationError:
        return "online"  # there is a key; if it is invalid, the upload reports that


def _settings() -> Any:
    """W&B's own settings, from its files and the environment."""
    if not os.environ.get("WANDB_MODE"):
        os.environ.pop("WANDB_MODE", None)  # W&B does not treat an empty value as unset
    import wandb

    return wandb.setup(settings=wandb.Settings(silent=True)).settings
