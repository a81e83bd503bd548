"""The pure core: no I/O, no wall clock, no randomness of its own, no threads."""
