"""A stream that is checked message by message, and goes on at another server when its own is lost."""
