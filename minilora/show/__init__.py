"""Tables, figures and their style."""
