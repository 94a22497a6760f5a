"""Studies: what they are made of, how they run, what they found, and the search of their settings."""
