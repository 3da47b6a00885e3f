"""The embedded `digits` data: what they are made of, their text encoder and VAE."""
