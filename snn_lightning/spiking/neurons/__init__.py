"""Neurons: their settings, dynamics and surrogate gradients."""
