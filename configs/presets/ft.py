"""Factor transfer (Kim et al., 2018): a first fit of the paraphraser, a second of the translator with the hard labels.

The paper's factors per channel (0.5), p = 1 and the authors' 500 on the mean of the differences.

Command:  python run.py --config=configs/presets/ft.py
Cost:     a few minutes on 2 CPU cores
Expected: 80.8 % (mean of 10 seeds; hard labels 91.0 %)
"""

from ml_collections import ConfigDict

from configs import preset

PRESET = preset.Preset(
    terms={
        'hard': preset.HARD,
        'paraphrase': {'kind': 'ft.Paraphrase', 'layer': 'stage3', 'rate': 0.5, 'form': 'mean'},
        'factor': {
            'kind': 'ft.Factor',
            'layer': 'stage3',
            'paraphraser': preset.TermName('paraphrase'),
            'rate': 0.5,
            'form': 'mean',
        },
    },
    chain=({'paraphrase': 1.0}, {'hard': 1.0, 'factor': 500.0}),
)


def get_config(arg: str = '') -> ConfigDict:
    """The preset on digits, locked."""
    return preset.config(PRESET, arg)
