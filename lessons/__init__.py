"""The lessons, and the tools that draw their pictures and build their pages."""
