"""The public API: servicers, validation of requests, responses."""
