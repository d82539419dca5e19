"""The gate that stops bad data before anything is built from it."""
