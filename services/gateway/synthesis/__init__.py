"""From a checked request to frames and audio: one utterance, texts, failover."""
