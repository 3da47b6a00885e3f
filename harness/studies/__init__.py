"""A paper's table as one file: its cells, run side by side or by a scheduler, and what they say."""
