"""`python -m workbench`: parse, run, and turn what a user can mend into one line."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes: 128 and the signal's number, as shells count."""


def main() -> None:
    """The command line."""
    from workbench.cli import app
    from workbench.config import UserError
    from workbench.files import disk_refusal

    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into an exit of its own
        code = INTERRUPTED if isinstance(end, KeyboardInterrupt) else end.code
        if code in (INTERRUPTED, TERMINATED):
            print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(code)
    except BrokenPipeError:
        # the reader (head, less) has gone; keep the interpreter from complaining while it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if (refusal := disk_refusal(error, Path.cwd())) is None:
            raise
        print(f"error: {refusal}", file=sys.stderr)
        sys.exit(2)


def _terminate(*_: Any) -> None:
    """SIGTERM stops as Ctrl-C does: what is open is closed, and the user is told how to go on."""
    sys.exit(TERMINATED)


if __name__ == "__main__":
    main()
