"""Results of runs and sweeps: files and tables."""
