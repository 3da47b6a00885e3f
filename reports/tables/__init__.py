"""pandas frames: the columns, the comparisons that are allowed, history."""
