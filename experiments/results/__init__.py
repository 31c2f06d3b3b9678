"""From records to docs/results.md, its figures, and every measured number in the project's texts."""
