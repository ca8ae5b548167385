"""Autoencoders and the pipelines around them: loaded, written, put together, run."""
