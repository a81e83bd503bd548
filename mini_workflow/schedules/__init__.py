"""Schedules: executions started by a plan, and the built-in workflow that starts them."""
