"""Where executions are kept: each backend implements the ports, and none knows another."""
