"""Put a runtime together: the engine over one store and its runners."""
