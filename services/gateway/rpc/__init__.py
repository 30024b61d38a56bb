"""The public API: servicers and responses."""
