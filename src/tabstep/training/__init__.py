"""The training loop: step, loss, metrics, optimizer, schedule, stopping and checkpoints."""
