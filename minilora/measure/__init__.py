"""Where and how methods are measured: the lab, records of what was found, the comparison, the curve."""
