"""Cells: runs of one config under one seed, stack and settings, and what runs them."""
