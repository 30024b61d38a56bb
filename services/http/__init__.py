"""The HTTP server: OpenAI's speech API, and more, over the gateway's public gRPC API.

It is stateless, and knows no model and no audio format.
"""
