"""Tests on a runtime of their own."""

from tests.runtime_fixtures import gates, in_thread, path, runtime

__all__ = ["gates", "in_thread", "path", "runtime"]
