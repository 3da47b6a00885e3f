"""U-ViT's operations on a CPU, compiled: kernels, attention, products, threads."""
