"""Weights that were trained before: what ships, and folders in diffusers' format."""
