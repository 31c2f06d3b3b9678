"""The error function, which NumPy lacks, from the rational approximations of Cody 1969."""

from minilora.backend import Array, xp

# Rational approximations of erf: below 0.46875 as x R(x²), above as 1 - exp(-x²) R(x) (Cody 1969, tables I and II).
_ERF_SMALL = (
    (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_ERF_LARGE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
     2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
     1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
     3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)  # fmt: skip


def erf(a: Array) -> Array:
    """Compute the error function of an array, accurate to the last digit or two of its dtype."""
    magnitude = xp.minimum(abs(a), 6)  # erf(6) is 1 in float64
    square = magnitude * magnitude
    small = magnitude * _ratio(_ERF_SMALL, square)
    large = 1 - xp.exp(-square) * _ratio(_ERF_LARGE, magnitude)
    return xp.copysign(xp.where(magnitude < 0.46875, small, large), a)


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    top, bottom = (coefficients[0][0] * x + coefficients[0][1], x + coefficients[1][1])
    for p, q in zip(coefficients[0][2:], coefficients[1][2:], strict=True):
        top = top * x + p
        bottom = bottom * x + q
    return top / bottom
