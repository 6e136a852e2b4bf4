"""Training: the loop, what is observed after each epoch, and what a run starts from."""
