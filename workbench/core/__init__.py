"""The foundation: configs, files, randomness, shapes, measurements."""
