"""Numbers from features: Frechet distance and its interval, KID, precision and recall."""
