"""What to measure and how to show it: the demo, tables, figures and the report."""
