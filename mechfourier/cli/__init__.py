"""The command line: one small module per command; torch is imported inside the commands."""

from mechfourier.cli.app import app, main

__all__ = ["app", "main"]
