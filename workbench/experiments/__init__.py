"""Studies: their definition, runs, results and the search of their settings."""
