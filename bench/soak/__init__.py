"""Hours of ordinary use: what a deployment holds in memory, and whether every answer stays the same."""
