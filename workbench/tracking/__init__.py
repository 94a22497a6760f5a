"""W&B: one run a stage or study, which no study waits for.

A study writes a small record for each stage (record, tracker). A process of its own, at the lowest priority, makes the
records W&B runs in a folder (background, run) and uploads them where the user is logged in (upload). Whatever becomes
of that process, the records stay: the next command, or `python -m workbench sync`, goes on from them. Only run, upload
and mode know wandb, and none of them is imported by a study.
"""
