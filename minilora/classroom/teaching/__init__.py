"""What a teacher does with a class: hand out, collect, grade, and give marks to Moodle, Canvas and Gradescope."""
