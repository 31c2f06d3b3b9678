"""Demos: transfer learning in four steps, and teaching a pretrained model a company's jargon."""
