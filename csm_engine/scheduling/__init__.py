"""Scheduling policies: admission, slots, batches. They do not use torch, and callers pass the time in."""
