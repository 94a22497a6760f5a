"""Tuning: Optuna over the fields that a study's `search` names, each trial an ordinary cell on validation images."""
