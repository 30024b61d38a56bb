"""What only a device can settle, asked first: one short check for each doubt."""
