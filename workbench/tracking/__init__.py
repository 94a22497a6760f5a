"""W&B: one run per stage or study; studies never wait for it.

A study writes a small record for each stage (record, tracker) and never loads wandb. One separate process per runs
folder, with the lowest priority (__main__, turn), turns the records into offline runs (publish, run, pictures) and
uploads them if the user is logged in (mode, upload). If that process dies, the records remain, and the next command or
`python -m workbench sync` (sync) continues.

A runs folder may come from someone else: `inside` and `contents` restrict what records and runs may name.
"""
