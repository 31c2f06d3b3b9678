"""An nbgrader course, made from the lessons."""
