"""Running a student's code in a process of its own, behind limits."""
