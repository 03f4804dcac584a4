"""Claims about zero-shot agents, tested in a maze of images whose values are known exactly."""
