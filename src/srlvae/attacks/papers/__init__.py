"""A file a paper: its objective, the attack, its published settings."""
