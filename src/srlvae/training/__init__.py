"""What all trainings share: learning rates, averages, checkpoints, precision, and gradient checkpointing."""
