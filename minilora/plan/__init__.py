"""Memory and computing of a training step, by arithmetic on a model's shape."""
