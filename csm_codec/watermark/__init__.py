"""The audio watermark: SilentCipher embedded while audio streams, and found again. It knows no codec and no RPC.

Scheme and networks: Singh et al., "SilentCipher: Deep Audio Watermarking" (2024), github.com/sony/silentcipher.
"""
