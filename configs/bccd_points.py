"""Blood cells as points: configs/bccd.py with detectors of the kind of CenterNet, on the same networks, data and fits.

Their one map has stride 4; they say where centres are, how large objects are, and where in a cell the centre lies, and
need no suppression. Terms of edges have nothing to read there, and so their methods are left out; 'soft heat' is what
soft targets are on a map of centres.

Command:  KDJAX_DATA=folder python run.py --config=configs/bccd_points.py
Cost:     not measured as a whole; methods=cwd,seeds=1,teacher_epochs=10,epochs=6 takes five minutes of one core
Expected: of that AP50 of the test split 82 % (teacher), 57 (student alone)
Arguments: as of configs/bccd.py, but for inherit; stride=4|8
"""

from ml_collections import ConfigDict

from configs import bccd

TASK = {'heat': 1.0, 'size': 0.1, 'offset': 1.0}
TERMS = {
    'heat': {'kind': 'centernet.CentreFocal'},
    'size': {'kind': 'centernet.CentreDistance', 'tap': 'sizes', 'wanted': 'centre_size'},
    'offset': {'kind': 'centernet.CentreDistance', 'tap': 'offsets', 'wanted': 'centre_offset'},
    'soft_heat': {'kind': 'mld.MultiLabelTargets'},
}
METHOD = 'soft heat', 'soft_heat', 1.0  # name, term and its weight


def get_config(arg: str = '') -> ConfigDict:
    """Detection of centres, locked."""
    stride = '' if 'stride=' in arg else 'stride=4'
    config = bccd.get_config(','.join(filter(None, (arg, stride))))
    with config.unlocked(), config.ignore_type():
        config.title = 'Blood cells as points (BCCD)'
        config.task.valuable = 0.0
        for network in (config.teacher, config.student):
            network.net = 'centernet.detector'
            backbone = {name: value for name, value in network.args.items() if name != 'depth'}
            network.args = ConfigDict({**backbone, 'head': network.args.neck})
        edges = {name for name, spec in config.terms.items() if spec['kind'].startswith('localization.')}
        kept = {method: fits for method, fits in config.methods.items()
                if not edges & {term for fit in fits for term in config.fits[fit].weights}}  # fmt: skip
        own = {name for name in config.terms if name not in edges | set(bccd.TASK)}
        config.terms = ConfigDict({**{name: config.terms[name] for name in own}, **TERMS})
        for fit in (config.teacher.fit, *config.fits.values()):
            shared = {term: weight for term, weight in fit.weights.items() if term in own}
            fit.weights = ConfigDict({**TASK, **shared})
        name, term, weight = METHOD
        extra = config.fits[kept[config.baseline][0]].copy_and_resolve_references()
        extra.weights[term] = weight
        fits = {fit: config.fits[fit] for fits in kept.values() for fit in fits}
        config.fits = ConfigDict({**fits, term: extra})
        config.methods = ConfigDict({**kept, name: (term,)})
        config.accept.method = name
    return config.lock()
