"""Measure the library side by side with its peers and with what the storage allows."""
