"""gRPC round the servicers of every stage: server, calls, status, channels, TLS."""
