"""One family a file: source, state, rule, factory, cards."""
