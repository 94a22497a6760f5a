"""Training with Lightning: the modules, the Trainer factory and the data module."""
