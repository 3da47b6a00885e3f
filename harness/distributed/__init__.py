"""Several processes on one run: started, brought together, watched, and their sums in order."""
