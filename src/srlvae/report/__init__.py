"""Rows of results → tables, plots and a page."""
