"""Our questions, one package per study. Studies import the workbench, never the reverse."""
