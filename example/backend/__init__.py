"""A backend to learn from: executions in one JSON file. docs/writing-a-backend.md goes through it."""

from example.backend.ports import FileBackend

__all__ = ["FileBackend"]
