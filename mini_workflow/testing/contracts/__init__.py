"""Contract suites for authors of stores and runners."""
