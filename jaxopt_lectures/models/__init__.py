"""Flax NNX modules for the tasks and examples; no optimizer is known here."""
