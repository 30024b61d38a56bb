"""Adapters to voice-agent frameworks, each an extra of the distribution. Nothing here is imported by csm_client."""
