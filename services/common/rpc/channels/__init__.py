"""Channels from one stage to all replicas of another: opened, replaced and closed."""
