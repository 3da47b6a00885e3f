"""Captions, sampling, features, FID and the other metrics."""
