"""Running several stages: in processes, or on a cluster."""
