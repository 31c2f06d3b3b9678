"""What a lesson's folder holds: tasks, their checks, the mistakes that the checks know."""
