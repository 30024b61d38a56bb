"""Engine and codec as the gateway sees them."""
