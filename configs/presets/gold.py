"""GOLD (Patiño et al., 2025): six of ten classes are known to be the same, the others are compared by rank.

The weights are TRL's: the share of the teacher's vocabulary that is matched, and the rest.

Command:  python run.py --config=configs/presets/gold.py
Cost:     a few minutes on 2 CPU cores
Expected: 91.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

MATCHED = tuple((label, label) for label in range(6))
PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'matched': {'kind': 'gold.MatchedTokens', 'matched': MATCHED, 'beta': 0.5},
        'unmatched': {'kind': 'uld.UniversalLogits', 'matched': MATCHED},
    },
    chain=({'hard': 1.0, 'matched': 0.6, 'unmatched': 0.4},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
