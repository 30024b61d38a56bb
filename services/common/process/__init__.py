"""What a program does as a process: signals, exit codes, its libraries' memory and threads."""
