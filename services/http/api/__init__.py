"""What every request shares: who calls, limits, errors in OpenAI's shape, counters."""
