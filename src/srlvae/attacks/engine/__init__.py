"""The loop that every attack runs in, and what it is told: balls, rules, views, traces."""
