"""Stages: the cached steps that studies are made of."""
