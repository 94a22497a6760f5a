"""python -m tests.frozen identities: write what tests/frozen/test_identities.py compares with."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from frozen import identities

if __name__ == "__main__":
    identities.write()
