"""Integrations: other libraries, made durable by this one. Each needs an extra of its own."""
