"""Pretrained weights: those that ship, and folders in diffusers' format."""
