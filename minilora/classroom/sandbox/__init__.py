"""Sandboxes: running a student's code in a process of its own, with limits."""
