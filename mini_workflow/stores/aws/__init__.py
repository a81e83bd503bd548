"""Share what the stores and queues on AWS have in common: clients, their errors, and limits."""
