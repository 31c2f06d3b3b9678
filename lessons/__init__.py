"""The lessons, and what draws their pictures and makes their pages."""
