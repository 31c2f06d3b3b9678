"""The walk-through notebooks, and what makes them of their sources."""
