"""The built-in voice: small networks trained on speech that free programs make. Each part has its own folder."""
