"""Figures that notebooks alone draw; `from figures import pictures` finds them beside a notebook."""
