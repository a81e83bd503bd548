"""An agent that asks a person first, says what it does while it does it, and survives kill -9."""
