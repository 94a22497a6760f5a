"""The solvers study."""
