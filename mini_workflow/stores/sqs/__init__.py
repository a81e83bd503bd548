"""Dispatch tasks, messages and wake-ups through AWS services."""
