"""The Severity Workbench: reproducible studies of severity-adaptive latent diffusion for inverse problems."""

import os

__version__ = "0.1.0"

# OpenMP's threads spin while they wait and so take the cores that another process needs: two commands at once crawl.
# Sleeping at once slows a single command by up to half, because small batches make short steps. Therefore GNU's
# runtime spins a thousand times first, as it does by default if there are more threads than cores. It reads this once,
# when torch is loaded; child processes inherit it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
