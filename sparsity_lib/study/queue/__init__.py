"""The queue: what is missing of a profile, trained side by side, and what it costs."""
