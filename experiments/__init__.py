"""Programs that launch valuelab from the command line; `configs/` holds one file an agent."""
