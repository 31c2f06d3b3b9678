"""Commands of `python -m experiments`, one file each, as in minilora/commands."""
