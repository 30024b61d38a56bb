"""What a stage tells of itself: logs, metrics, spans."""
