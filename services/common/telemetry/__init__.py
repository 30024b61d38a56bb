"""What a stage reports about itself: logs, metrics, spans."""
