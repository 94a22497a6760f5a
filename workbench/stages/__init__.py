"""Stages: the cached steps of studies."""
