"""Blockwise distillation: each block of a student learns on what its teacher has before it, all of them at once.

A student whose taps have the shapes of its teacher's is cut at some of them. While it trains, what is behind such a
tap reads the teacher's features in the place of its own: so no block reads what another has not learned yet, and no
gradient goes from one to the other. Terms read the student's own features there, and what it answers is the answer of
its last block alone. Outside of training, and in fits that come after, the blocks are one network again.

References: Koratana, Kang, Bailis, Zaharia, LIT: Learned Intermediate Representation Training for Model Compression,
ICML 2019; Li, Peng, Yuan, Wang, Liang, Lin, Chang, Block-wisely Supervised Neural Architecture Search with Knowledge
Distillation, CVPR 2020.
"""

from collections.abc import Mapping, Sequence

from kdjax.errors import UsageError, unknown
from kdjax.nets.base import FED
from kdjax.types import Net, Outputs, Tree


def blockwise(net: Net, cuts: tuple[tuple[str, str], ...], read: Sequence[str]) -> Net:
    """A network that is cut while it trains.

    Args:
      net: the student, with what its terms ask of it.
      cuts: its taps, each with the tap of the teacher that is read in its place.
      read: the taps of the student that terms read.

    Raises:
      UsageError: its taps cannot be fed, or it has not such a one; or no term reads what a block has there, so that it
        would learn nothing.
    """
    if net.fed is None:
        raise UsageError(f'blockwise={dict(cuts)} is of students that are modules of linen, by from_linen, without '
                         'peers, a change of the student or terms that ask it further questions')  # fmt: skip
    for own, _ in cuts:
        if own not in net.taps:
            raise unknown('tap', own, net.taps, ' of the student in blockwise')
        if own not in read:
            raise UsageError(f'no term of the fit reads the tap {own!r} of the student: what is before this cut would '
                             f'learn nothing. Terms read {sorted({*read})}')  # fmt: skip
    return net._replace(fed=cuts)


def fed(net: Net, variables: Tree, teacher: Outputs) -> Mapping[str, Tree]:
    """The variables of a student in training, with what it is fed of what its teacher said.

    Raises:
      UsageError: the teacher has not a tap that is read.
    """
    if not net.fed:
        return variables
    for _, other in net.fed:
        if other not in teacher.features:
            raise unknown('tap', other, teacher.features, ' of the teacher in blockwise')
    return {**variables, FED: {own: teacher.features[other] for own, other in net.fed}}
