"""Measurements: the lab, records, statistics, the learning curve and reports of a task."""
