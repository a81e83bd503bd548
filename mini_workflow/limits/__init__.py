"""Limits: the built-in workflow that grants slots to executions that ask for them."""
