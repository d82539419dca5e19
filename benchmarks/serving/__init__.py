"""Slipway's server beside those of others: `make bench-serving`."""
