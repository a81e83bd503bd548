"""Limits: the built-in workflow that grants slots to whoever asks for them."""
