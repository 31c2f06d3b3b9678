"""What notebooks alone use, their figures above all; `from figures import pictures` finds it beside a notebook."""
