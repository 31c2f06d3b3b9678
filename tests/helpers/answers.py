"""Replacing the answers in a lesson's solution, and finding the lines that would give the right ones away."""

import textwrap

from lessons.build import filled
from minilora.errors import FormatError


def with_answers(source, answers):
    """Return the solution's text with other code in the gaps. answers: {function: code}. Raises FormatError."""
    functions = [gap.where for gap in source.gaps]
    if unknown := set(answers) - set(functions):
        raise FormatError(f"{source.path} has no solution in {', '.join(unknown)}; there are {', '.join(functions)}")

    def lines(gap):
        if gap.where not in answers:
            return source.lines[gap.first : gap.last]
        return textwrap.indent(textwrap.dedent(answers[gap.where]).strip("\n"), gap.indent).splitlines()

    return filled(source, lines)


def solution_lines(source):
    """Return the lines between the markers, stripped, without comments and lines of fewer than 16 characters."""
    lines = {line.strip() for gap in source.gaps for line in source.lines[gap.first : gap.last]}
    return {line for line in lines if len(line) >= 16 and not line.startswith("#")}
