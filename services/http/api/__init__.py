"""What all requests share: callers, limits, errors in OpenAI's format, metrics."""
