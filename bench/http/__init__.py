"""What the HTTP door costs in addition to gRPC, and how many streams it can hold."""
