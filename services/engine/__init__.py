"""The engine stage: codes from text, over gRPC."""
