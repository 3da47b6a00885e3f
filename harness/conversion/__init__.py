"""Weights in from elsewhere and out as a pipeline's folder."""
