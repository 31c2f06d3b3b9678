"""What a training step needs in memory and computing, by arithmetic on a model's shape."""
