"""The memory that a training step needs, calculated from a model's shape."""
