"""What the study's code costs beside plain training and beside what one would write without it."""
