"""Tests of baselines.nights."""
