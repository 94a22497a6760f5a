"""The data-consistency study."""
