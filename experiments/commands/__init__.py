"""The commands of `python -m experiments`, each a file as in minilora/commands."""
