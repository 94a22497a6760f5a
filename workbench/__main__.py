"""`python -m workbench`: parse, run, and turn what a user can mend into one line."""

import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

INTERRUPTED = 130
"""The exit code of Ctrl-C: 128 and the signal's number, as shells count."""


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
    for stream in (sys.stdout, sys.stderr):  # names of files may hold what the terminal cannot show
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code: Any
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        refuse(str(error))
    except UsageError as error:
        if "\n" in error.format_message():  # the help, of a command without arguments
            error.show()
            sys.exit(error.exit_code)
        refuse(f"{error.format_message().replace('Value error, ', '')} (--help says what there is)")
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as end:
        code = end.code
        if isinstance(end.__context__, BrokenPipeError):  # by Typer, which has quietened stdout
            sys.exit(code)
        if code != TERMINATED:  # nothing here ends like this: a status of 0 would say that all was done
            refuse(f"a library, or code of yours, ended the command before it was done (SystemExit: {code})")
    except BrokenPipeError:
        # the reader (head, less) has gone; keep the interpreter from complaining while it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        if (refusal := disk_refusal(error, Path.cwd())) is None:
            raise
        refuse(refusal)
    if code in (INTERRUPTED, TERMINATED):
        print("stopped; the same command goes on from here", file=sys.stderr)
    sys.exit(code)


def _terminate(*_: Any) -> None:
    """SIGTERM stops as Ctrl-C does: what is open is closed, and the user is told how to go on."""
    from workbench.core.config import TERMINATED

    sys.exit(TERMINATED)


if __name__ == "__main__":
    main()
