"""Package the candidate, prove that it serves, and register it."""
