"""W&B: one run a stage or study, which no study waits for.

A study writes a small record for each stage (record, tracker) and never loads wandb. A process of its own, at the
lowest priority (__main__), makes the records offline runs (publish, run, pictures) and uploads them where the user is
logged in (mode, upload). Whatever becomes of that process, the records stay: the next command, or
`python -m workbench sync` (sync), goes on from them.
"""
