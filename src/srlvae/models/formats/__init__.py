"""Single files and their layouts: what other programs write is read here, and what they read is written."""
