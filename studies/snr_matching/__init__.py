"""The SNR-matching study."""
