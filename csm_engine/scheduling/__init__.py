"""Policies: who gets a slot, who is in a step, who is admitted. No torch, and the time is given."""
