"""Studies: many cells from one file, and the tables that are made of them."""
