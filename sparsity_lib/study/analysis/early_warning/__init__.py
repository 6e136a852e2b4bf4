"""Early warnings of overfitting by entropy: change-points, detectors, tests and counts."""
