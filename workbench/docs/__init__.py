"""The reference built by `make docs`: every setting of every kind, and the API from its docstrings."""
