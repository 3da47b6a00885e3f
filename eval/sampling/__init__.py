"""Latents from a model, images from latents, blocks of them on disk."""
