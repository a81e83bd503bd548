"""Simulate crashes, lost messages and time for tests of engines and stores."""
