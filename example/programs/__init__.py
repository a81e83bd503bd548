"""Small programs to copy from; each runs by itself: ``python -m example.programs.approval``."""
