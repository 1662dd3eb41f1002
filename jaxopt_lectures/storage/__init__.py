"""How optimizer state and narrow weights are kept: codes, rounding, blocks. This room knows no optimizer."""
