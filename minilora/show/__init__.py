"""How things look: tables, figures and their style."""
