"""Look at the test window once: scores, intervals, comparisons, slices, gates."""
