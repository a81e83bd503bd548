"""Integrations of other libraries, which become durable by this one. Each needs an extra of its own."""
