"""What everything rests on: configs, files, randomness, shapes, measurements."""
