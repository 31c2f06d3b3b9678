"""pytest lessons/08_lora: each task of a lesson against its exercise.py, as a test of its own."""

from minilora.classroom.grading.collect import pytest_collect_file  # noqa: F401
