"""Networks that turn images into features, and where their weights come from."""
