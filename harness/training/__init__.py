"""A training run: the loop, the step, and what happens beside it."""
