"""Autoencoders and the pipelines around them: loading, writing, combining and running them."""
