"""What engine and codec share: where a voice's parts are, how its files are read, errors. It knows no model."""
