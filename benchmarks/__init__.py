"""Benchmarks of speed and memory beside the tools that people would use instead. Most modules are commands."""
