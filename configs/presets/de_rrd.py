"""DE-RRD (Kang et al., 2020): experts on the last features and relaxed ranking, beside the hard labels.

Classes are the items: of ten, 3 interesting and 4 uninteresting besides the label. The paper tunes both weights per
data set, from 0.001 to 1; here they are 0.01. Experts are chosen ever more sharply: T falls from 1 to 0.1.


Command:  python run.py --config=configs/presets/de_rrd.py
Cost:     a few minutes on 2 CPU cores
Expected: 92.1 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'experts': {
            'kind': 'de_rrd.DistillationExperts',
            'layer': 'penult',
            'experts': 5,
            'temperature': 1.0,
            'schedules': (('temperature', 1.0, 0.1, 400),),
        },
        'ranking': {
            'kind': 'de_rrd.RelaxedRanking',
            'interesting': 3,
            'uninteresting': 4,
            'pool': 4,
            'sharpness': 2.0,
        },
    },
    chain=({'hard': 1.0, 'experts': 0.01, 'ranking': 0.01},),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
