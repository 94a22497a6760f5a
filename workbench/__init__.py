"""The Severity Workbench: severity-adaptive latent diffusion for inverse problems, as studies that can be repeated."""

__version__ = "0.1.0"
