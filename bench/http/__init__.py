"""What the HTTP door costs over gRPC, and how many streams it holds."""
