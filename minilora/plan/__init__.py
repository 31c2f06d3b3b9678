"""What a training step needs in memory and time, by arithmetic on a model's shape."""
