"""What is calibrated: one file a step."""
