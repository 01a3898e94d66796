"""What a training leaves on the disk: checkpoints, its state, its record, and what was there before."""
