"""Stages that fit statistics of a severity encoder for start rules."""
