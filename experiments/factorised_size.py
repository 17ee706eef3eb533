"""A large convolution is cheaper as a series of small ones that sees the same.

Weights per pair of channels, of convolutions between equally many channels and without biases: at equal sides they are
in the ratio of the multiply-adds. 1x7 and 7x1 take two sevenths of a 7x7, less than three 3x3 take.
"""

from classicnets.claims import main
from classicnets.claims.exact import Stated, exact
from experiments.three_by_three import measured_field, weights

PAPER = "Szegedy et al. 2016"
THREE, FIVE, SEVEN = (3, 3), (5, 5), (7, 7)
THIN = ((1, 7), (7, 1))


def saving(whole: tuple[int, int], *parts: tuple[int, int]) -> float:
    """Return the percentage of the weights of one convolution that a series of others saves."""
    return 100 * (1 - weights(*parts) / weights(whole))


SQUARE, THINNER = f"{PAPER}, section 3.1", f"{PAPER}, section 3.2"
claim = exact(
    name="factorised_size",
    sentence="large convolutions are cheaper as series of small or of thin ones",
    source="Szegedy et al., CVPR 2016, sections 3.1 and 3.2",
    stated=[
        Stated("5x5 over 3x3", "= 2.78", SQUARE, lambda: weights(FIVE) / weights(THREE)),
        Stated("saved of 5x5 by two 3x3 (%)", "= 28", SQUARE, lambda: saving(FIVE, THREE, THREE)),
        Stated("saved of 3x3 by 3x1 and 1x3 (%)", "= 33", THINNER, lambda: saving(THREE, (3, 1), (1, 3))),
        Stated("saved of 3x3 by two 2x2 (%)", "= 11", THINNER, lambda: saving(THREE, (2, 2), (2, 2))),
        Stated("saved of 7x7 by 1x7 and 7x1 (%)", "= 71", "2/7", lambda: saving(SEVEN, *THIN)),
        Stated("saved of 7x7 by three 3x3 (%)", "= 45", "27/49", lambda: saving(SEVEN, THREE, THREE, THREE)),
        Stated("side seen by two 3x3", "= 5", SQUARE, lambda: measured_field(THREE, THREE)),
        Stated("side seen by 1x7 and 7x1", "= 7", THINNER, lambda: measured_field(*THIN)),
    ],
)

if __name__ == "__main__":
    main(claim, __file__)
