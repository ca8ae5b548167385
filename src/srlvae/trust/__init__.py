"""What comes from others and is not trusted: names that might be fetched, folders of weights, links that lead elsewhere."""
