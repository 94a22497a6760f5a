"""The reference that `make docs` writes: every setting of every kind, and the API from its docstrings."""
