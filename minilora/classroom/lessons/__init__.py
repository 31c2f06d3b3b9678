"""Lessons: the folders they are read from, their tasks and their checks."""
