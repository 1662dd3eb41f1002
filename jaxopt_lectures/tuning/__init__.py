"""Tries an optimizer's hyper-parameters: where to look, many runs in one program, what came out."""
