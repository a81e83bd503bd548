"""Drives the core through the ports."""
