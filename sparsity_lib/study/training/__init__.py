"""Training: the loop, the observations after each epoch, and the set-up of a run."""
