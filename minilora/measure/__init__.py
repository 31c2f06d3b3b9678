"""Measuring methods: the lab, records, the comparison, the curve."""
