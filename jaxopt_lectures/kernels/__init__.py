"""One pass over memory for a chain of elementwise rules."""
