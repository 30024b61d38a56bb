"""The inference library: CSM's backbone and depth decoder, Mimi, SilentCipher. It knows no gRPC and no asyncio."""
