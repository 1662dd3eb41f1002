"""The command line."""

from jaxopt_lectures.cli.app import main

__all__ = ["main"]
