"""The Severity Workbench: severity-adaptive latent diffusion for inverse problems, as studies that can be repeated."""

import os

__version__ = "0.1.0"

# OpenMP's threads spin while they wait, and take the cores that another process needs: two commands at once crawl.
# Sleeping at once costs one command alone up to half as much time again, as small batches make short steps; so GNU's
# runtime looks a thousand times first, as it does by itself where threads outnumber cores. It reads this once, when
# torch is loaded; processes that are started here inherit it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
