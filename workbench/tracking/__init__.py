"""W&B: one run per stage or study, which no study waits for.

A study writes a small record for each stage (record, tracker) and never loads wandb. A process of its own, at the
lowest priority (__main__) and the only one of its runs folder (turn), makes the records offline runs (publish, run,
pictures) and uploads them where the user is logged in (mode, upload). Whatever becomes of that process, the records
stay: the next command, or `python -m workbench sync` (sync), goes on from them.

A runs folder may be someone else's: what records and runs may name is in `inside` and `contents`.
"""
