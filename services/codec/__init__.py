"""The codec stage: watermarked audio from codes, codes from audio, and detection, over gRPC."""
