"""What a run is like, to look at."""
