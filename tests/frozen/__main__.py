"""python -m tests.frozen rows [--quick] [--only TEXT]: compute the sample again and compare it with what was frozen.

python -m tests.frozen rows --write, or identities --write: freeze what there is now.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from frozen import identities, rows


def main() -> int:
    """The number of cells that are other than frozen."""
    parser = argparse.ArgumentParser(prog="python -m tests.frozen", description=__doc__)
    parser.add_argument("what", choices=("identities", "rows"))
    parser.add_argument("--write", action="store_true", help="freeze what there is now")
    parser.add_argument("--quick", action="store_true", help="one cell per solver, start rule and guess")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--runs", type=Path, help="a runs folder to go on in, instead of one that is deleted")
    options = parser.parse_args()
    if options.what == "identities":
        if not options.write:
            parser.error("pytest tests/frozen/test_identities.py compares identities")
        identities.write()
        return 0
    chosen = rows.names(quick=options.quick, containing=options.only)
    kept = rows.read(rows.ROWS) if rows.ROWS.is_file() else {}
    if options.write:
        for name, found in rows.compute(chosen, options.runs):
            kept[name] = found
            rows.write(rows.ROWS, kept)
        return 0
    num_exact = num_other = 0
    for name, today in rows.compute(chosen, options.runs):
        other, near = rows.compare(kept[name], today)
        num_other += bool(other)
        num_exact += not other and not near
        print(f"{'OTHER' if other else 'near ' if near else 'equal'}  {name}", flush=True)
        for line in [*other, *near]:
            print(f"         {line}")
    print(f"{len(chosen)} of {len(kept)} cells: {num_exact} equal to the bit, {num_other} other than frozen")
    return num_other


if __name__ == "__main__":
    sys.exit(min(main(), 1))
