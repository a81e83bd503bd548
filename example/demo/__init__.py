"""The crash demo around the example's workflow."""
