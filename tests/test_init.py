import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, "passive 1000"),
        ({"OMP_WAIT_POLICY": "active"}, "active None"),
        ({"GOMP_SPINCOUNT": "7"}, "passive 7"),
    ],
)
def test_threads_wait_passively_unless_the_user_says_otherwise(own: dict[str, str], expected: str) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in names} | own
    script = f"import sys, os, workbench; assert 'torch' not in sys.modules; print(*map(os.environ.get, {names}))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == expected, "and torch is not loaded yet, which reads it once"
