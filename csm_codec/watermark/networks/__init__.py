"""SilentCipher's networks: the published folder, its sizes, and the embedding networks frame by frame."""
