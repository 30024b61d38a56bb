"""Words to phones: the dictionary, words whose use decides, letters to sound."""
