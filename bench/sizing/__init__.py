"""From the kept measurements to a fleet: docs/sizing.md."""
