"""Ways to make tests cheaper."""
