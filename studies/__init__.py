"""Our questions, one module a study. Studies import the workbench, never the reverse."""
