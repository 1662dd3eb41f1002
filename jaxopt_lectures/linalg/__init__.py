"""Functions of matrices; no optimizer is known here."""
