"""Training: the loop, the update, schedules, limits, and what a run reports."""
