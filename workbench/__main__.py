"""`python -m workbench`: parse, run, and turn user errors into one line."""

import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

INTERRUPTED = 130
"""The exit code of Ctrl-C: 128 plus the signal's number, as shells count."""


def main() -> None:
    """The command line."""
    from workbench.cli import UsageError, app
    from workbench.core.config import TERMINATED, UserError
    from workbench.core.files import disk_refusal
    from workbench.core.progress import one_line

    def refuse(message: str) -> NoReturn:
        print(f"error: {one_line(message)}", file=sys.stderr)
        sys.exit(2)

    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):  # file names may contain characters that the terminal cannot show
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code: Any
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        refuse(str(error))
    except UsageError as error:
        if "\n" in error.format_message():  # the help of a command without arguments
            error.show()
            sys.exit(error.exit_code)
        refuse(f"{error.format_message().replace('Value error, ', '')} (see --help)")
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as end:
        code = end.code
        if isinstance(end.__context__, BrokenPipeError):  # raised by Typer, which has silenced stdout
            sys.exit(code)
        if code != TERMINATED:  # nothing in the workbench exits this way; status 0 would mean success
            refuse(f"a library or your own code exited before the command was done (SystemExit: {code})")
    except BrokenPipeError:
        # the reader (head, less) has closed the pipe; keep the interpreter quiet while it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        if (refusal := disk_refusal(error, Path.cwd())) is None:
            raise
        refuse(refusal)
    if code in (INTERRUPTED, TERMINATED):
        print("stopped; run the same command again to resume", file=sys.stderr)
    sys.exit(code)


def _terminate(*_: Any) -> None:
    """SIGTERM stops like Ctrl-C: open resources are closed, and the user is told how to resume."""
    from workbench.core.config import TERMINATED

    sys.exit(TERMINATED)


if __name__ == "__main__":
    main()
