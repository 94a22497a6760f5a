"""Where Optuna stores its studies: a journal file, a database, or a gRPC proxy of one."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workbench.core.addresses import shown, without_secrets
from workbench.core.config import UserError
from workbench.core.foreign import FOREIGN

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "optuna.journal"
HEARTBEAT, GRACE = 60, 180
"""Seconds between two heartbeats of a worker with a database, and without one after which it counts as dead."""
ANSWER = 10.0
"""Timeout of a gRPC proxy in seconds."""


def open_storage(given: str | None, folder: Path, say: Callable[[str], None]) -> "BaseStorage":
    """Open the storage that the user names: a database URL, `grpc://HOST:PORT`, or a journal file.

    Args:
        given: None for the journal in the study's folder.
        say: called with a message if a truncated record of a journal was dropped.

    Raises:
        UserError: if the storage cannot be reached, or a file is not a journal.
    """
    address = address_of(given, folder)
    if "://" not in address:
        return _journal(Path(address), say)
    return _proxy(address) if address.startswith("grpc://") else _database(address)


def address_of(given: str | None, folder: Path) -> str:
    """The address of the storage, for display and for optuna-dashboard."""
    return given or str(folder / JOURNAL)


def dashboard_command(given: str | None, folder: Path) -> str:
    """The command to view the storage."""
    address = address_of(given, folder)
    if address.startswith("grpc://"):
        return "pip install optuna-dashboard; then optuna-dashboard with the storage behind the proxy"
    return f"pip install optuna-dashboard; then optuna-dashboard {shown(address)}"


def _journal(path: Path, say: Callable[[str], None]) -> "BaseStorage":
    from optuna.exceptions import OptunaError
    from optuna.storages import JournalStorage

    from workbench.experiments.tune.journal import Backend

    unreadable: tuple[type[Exception], ...] = (*FOREIGN, OptunaError)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(Backend(path, say))
    except UserError:
        raise
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"the Optuna journal {path} cannot be opened: {reason}") from None
    except unreadable as error:  # Optuna uses assertions on records
        raise UserError(
            f"{path} is not a readable Optuna journal ({type(error).__name__}: {error}): restore an earlier copy, "
            "or move it away (the results of its trials are cached)"
        ) from None


def _database(url: str) -> "BaseStorage":
    from optuna.exceptions import ExperimentalWarning, StorageInternalError
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                url,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
    except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError, ValueError) as error:
        raise UserError(f"the Optuna storage {shown(url)} cannot be reached: {_reason(error, url)}") from None


def _proxy(url: str) -> "BaseStorage":
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or 13000
        from optuna.exceptions import ExperimentalWarning
        from optuna.storages import GrpcStorageProxy

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            proxy = GrpcStorageProxy(host=host, port=port)
        proxy.wait_server_ready(ANSWER)
        return proxy
    except (ConnectionError, ImportError, ValueError) as error:
        raise UserError(f"the Optuna storage {shown(url)} cannot be reached: {_reason(error, url)}") from None


def _reason(error: BaseException, url: str) -> str:
    """The first line of the innermost cause that has a message: SQLAlchemy's message wraps the driver's."""
    said = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        said = next(iter(str(cause).splitlines()), said)
        cause = getattr(cause, "orig", None) or cause.__cause__
    return without_secrets(said, url)
