"""Slipway: a table of events becomes a model that answers requests, and stays healthy."""

__version__ = "0.1.0"
