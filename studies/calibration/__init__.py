"""The calibration study."""
