"""Wrappers change how an optimizer is run, not what it computes."""
