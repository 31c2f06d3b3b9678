"""The walk-through notebooks, and the tool that makes them from their sources."""
