"""Training: schedules, the loop, checkpoints and the folder that a run writes into."""
