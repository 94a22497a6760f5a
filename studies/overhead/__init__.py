"""The overhead study."""
