"""The first part of a lease: one short check for each question that only a device can answer."""
