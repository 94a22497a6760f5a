"""Stages that measure: restorations, calibration, costs, autoencoders."""
