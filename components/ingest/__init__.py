"""Read the sources into an immutable data version."""
