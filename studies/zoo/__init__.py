"""The zoo study."""
