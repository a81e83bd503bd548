"""The deterministic asyncio loop that workflow code runs on. It knows nothing of workflows."""
