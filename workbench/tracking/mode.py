"""Whether runs go to W&B's server, stay here, or are not made at all."""

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
"""What $WANDB_MODE may say, and what it means."""


def stated_mode() -> Mode | None:
    """What $WANDB_MODE says; None: nothing.

    Raises:
        UserError: if it is no mode.
    """
    name = os.environ.get("WANDB_MODE")
    if not name:
        return None
    if name not in MODES:
        raise UserError(f"WANDB_MODE is {name!r}: set it to online, offline or disabled, or unset it")
    return MODES[name]


def require_online(why: str) -> None:
    """Refuse to go on where W&B's server is kept out.

    Raises:
        UserError: if $WANDB_MODE or W&B's own settings say so.
    """
    if stated_mode() in ("offline", "disabled"):
        raise UserError(f"WANDB_MODE is {os.environ['WANDB_MODE']}, but {why}: unset it, or set it to online")
    if _settings().mode in ("offline", "dryrun", "disabled"):
        raise UserError(f"W&B is switched off by its settings, but {why}: run `wandb online`")


def wandb_mode() -> Mode:
    """What $WANDB_MODE says; else online where the user is logged in; else offline.

    Raises:
        UserError: if $WANDB_MODE is no mode.
    """
    if (stated := stated_mode()) is not None:
        return stated
    _settings()
    import wandb

    try:
        return "online" if wandb.login(prompt=False, verify=False) else "offline"
    except wandb.errors.AuthenticationError:
        return "online"  # there is a key; what is wrong with it, the upload says


def _settings() -> Any:
    """W&B's own settings, from its files and the environment."""
    if not os.environ.get("WANDB_MODE"):
        os.environ.pop("WANDB_MODE", None)  # W&B itself does not take an empty one for none
    import wandb

    return wandb.setup(settings=wandb.Settings(silent=True)).settings
