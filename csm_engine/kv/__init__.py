"""What slots keep: keys and values on the device and in host memory, and which slot begins like a prompt."""
