"""Reports: from the rows of a benchmark to tables, plots and pages. README, docs, terminal and browser share these tables."""
