"""Directions: where to go, from the gradients so far."""
