"""Codes to watermarked audio, audio to codes, and finding the watermark. It knows no text, no RPC and no event loop."""
