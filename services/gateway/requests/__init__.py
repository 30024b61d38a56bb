"""What a caller asks for: checked, and turned into a plan. It calls no stage."""
