"""Doctor: what is wrong with executions, and what to do about it, for the command line and the page."""
