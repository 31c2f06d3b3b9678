"""Experiments that measured the figures of minilora's documentation: run from a checkout, see README.md."""
