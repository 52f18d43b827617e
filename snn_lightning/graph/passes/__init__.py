"""Rewrites of the graph: batch norms folded, pooling chosen, stages cut."""
