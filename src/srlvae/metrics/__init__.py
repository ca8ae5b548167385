"""Metrics: from images to features, from those to statistics, from these to a number. They know no attack and no VAE."""
