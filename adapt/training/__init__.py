"""Train one task: loop, batches, checkpoints and the choice of the epoch."""
