"""Training by Lightning: the modules, the one Trainer factory and the data module."""
