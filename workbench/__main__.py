"""`python -m workbench`: parse, run, and turn what a user can mend into one line."""

import os
import sys


def main() -> None:
    """The command line."""
    from workbench.cli import app
    from workbench.config import UserError

    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # the reader (head, less) has gone; keep the interpreter from complaining while it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
