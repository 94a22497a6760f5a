"""The tuning study."""
