"""Stages that measure restorations, calibration, costs and autoencoders."""
