"""What a person at a terminal sees and does: text, tables, Ctrl-C."""
