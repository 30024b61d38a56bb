"""What the gateway costs for each stream, beside a relay that does nothing but pass messages on."""
