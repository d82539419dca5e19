"""Pipeline steps, a folder each."""
