"""Speed and memory, side by side with the tools people would use instead. Each module is a command."""
