"""Stages that fit what start rules need to know of a severity encoder."""
