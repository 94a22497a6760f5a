"""Several stages: in processes, or on a cluster."""
