"""Store executions: each store implements the ports, and imports no other store."""
