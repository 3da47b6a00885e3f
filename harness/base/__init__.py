"""What everything stands on: errors, progress, seeds, and the environment that paddle loads in."""
