"""Frozen models that are not trained here, and the folders they come in."""
