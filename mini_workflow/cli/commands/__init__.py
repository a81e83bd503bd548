"""The commands of `mini-workflow`, one module per kind."""
