"""Trains optimizers side by side on one task, and tells what came out: protocol, results, table, picture."""
