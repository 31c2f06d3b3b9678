"""A student's file against the checks of a lesson."""
