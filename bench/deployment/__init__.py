"""Stages as processes of this machine, for programs that disturb them. It measures nothing."""
