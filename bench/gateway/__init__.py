"""The gateway's CPU time for each stream, compared with a relay that only passes messages on."""
