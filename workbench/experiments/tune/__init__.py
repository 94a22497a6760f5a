"""Tuning: Optuna over a study's `search` fields; each trial is an ordinary cell on validation images."""
