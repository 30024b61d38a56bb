"""How the weights that ship with the project were made: one folder for each voice."""
