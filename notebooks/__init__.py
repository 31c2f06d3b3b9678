"""The walk-through notebooks, what makes them of their sources, and figures that they alone draw."""
