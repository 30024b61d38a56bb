"""What it costs to take a slot for a prompt, beside a scan over all slots."""
