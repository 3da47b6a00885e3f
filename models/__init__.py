"""U-ViT, the diffusion process, EMA, the frozen VAE and text encoder, weights in and out.

Nothing here knows of runs, run directories or the command line.
"""
