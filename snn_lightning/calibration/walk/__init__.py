"""The sweep over the stages, and what carries it."""
