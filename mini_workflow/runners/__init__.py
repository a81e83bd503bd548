"""Run attempts of tasks: on threads, on an event loop, in worker processes."""
