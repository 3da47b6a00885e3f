"""Reference numbers (published, recorded) and the comparison that gates on them."""
