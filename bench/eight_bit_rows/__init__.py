"""What eight bits for the rows of the layers' products change: logits, best codes, words understood. No kernel."""
