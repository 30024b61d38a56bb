"""Checks a stream message by message, and resumes it at another server when its own is lost."""
