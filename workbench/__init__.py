"""The Severity Workbench: severity-adaptive latent diffusion for inverse problems, as studies that can be repeated."""

import os

__version__ = "0.1.0"

# OpenMP's threads spin while they wait, and take the cores that another process needs: two commands at once crawl.
# torch's runtime reads this once, when torch is loaded; processes that are started here inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
