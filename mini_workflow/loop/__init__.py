"""The deterministic asyncio loop that workflow code runs on. Knows no workflow."""
