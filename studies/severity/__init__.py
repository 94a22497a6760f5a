"""The severity study."""
