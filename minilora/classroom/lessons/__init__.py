"""What a lesson's folder holds: tasks and their checks."""
