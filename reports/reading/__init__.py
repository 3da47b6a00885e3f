"""What runs left on disk, read and checked once."""
