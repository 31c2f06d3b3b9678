"""What is made from the lessons: notebooks, an nbgrader course, a site for the browser."""
