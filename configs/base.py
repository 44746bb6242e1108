"""Every field of a run, with its unit and its reason. Other configs start from here and change what they are about.

A knob (temperature, weight, learning rate, ...) is a number: --config.terms.soft.temperature=8. What validation is to
choose is named in `search`: all candidates are trained in one compiled grid, and the best is taken.
"""

from ml_collections import ConfigDict

from kdjax.errors import UsageError, unknown
from kdjax.study.config.search import Search


def get_config(arg: str = '') -> ConfigDict:
    """The defaults, locked. They name no data set: choose a config that does."""
    arguments(arg)
    return config().lock()


def config() -> ConfigDict:
    """The defaults, unlocked, for other configs to start from."""
    return ConfigDict(
        {
            'title': 'distillation',  # what the report is called
            'seed': 0,  # of everything random that cells share: the teacher, augmentation
            'seeds': 20,  # cells per method and transfer-set size; 5 cannot show p < 0.05 in a rank test, 20 can
            # What the data are used for: module.Class in kdjax/tasks and its arguments. Its 'score' is the metric that
            # decides: which step is best, which candidate is chosen, what is accepted, what the report judges
            'task': {'kind': 'classification.Classification'},
            'data': data(),
            'upstream': upstream(),
            'teacher': teacher(),
            'assistants': {},  # further networks that teach, by name, as 'teacher'; their fits may be taught themselves
            'student': student(),
            'terms': {
                # name -> {'kind': module.Class in kdjax/techniques, its knobs and fields}; fits name the terms they use
                'hard': {'kind': 'cross_entropy.CrossEntropy', 'smoothing': 0.0},
                'soft': {'kind': 'hinton.SoftTargets', 'temperature': 4.0, 'form': 'kl'},
            },
            'fits': {
                'baseline': fit(hard=1.0),  # what the student reaches without a teacher
                'distill': fit(soft=1.0),  # step 3 of the recipe: soft labels alone
                'finetune': fit(hard=1.0),  # step 4: the hard labels, from where 'distill' ended
                'combined': fit(hard=0.1, soft=0.9),  # steps 3 and 4 as one weighted sum
            },
            'methods': {
                # name in the report -> its fits, in order; each starts from the student of the one before
                'hard labels': ('baseline',),
                'soft, then hard': ('distill', 'finetune'),
                'combined': ('combined',),
            },
            'baseline': 'hard labels',  # the method that the others are compared with
            # Candidates that validation chooses from: knob -> numbers, such as
            # Search({'terms.soft.temperature': (2.0, 4.0, 8.0), 'fits.*.learning_rate': (3e-3, 1e-2)})
            'search': Search(),
            'run': run(),
            'launch': launch(),
            'accept': accept(),
            'retry': retry(),
            'tune': tune(),
            'expected': '',  # numbers of a paper that a sweep is held against: a JSON file, from the repository's root
            # Where curves are shown beside each stage's ledger.jsonl; each needs the extra of its name
            'track': {'tensorboard': False, 'wandb': False},
        }
    )


def data() -> ConfigDict:
    """Where examples come from, and which of them a student may see."""
    return ConfigDict(
        {
            # module.function in kdjax/data, 'my.module:function', or 'tfds:mnist': what --mode=prepare has prepared
            'source': 'digits.digits',
            'args': {},  # of the source: the folder of the files, how many examples are held out for validation, ...
            # Inputs are read batch by batch, ahead, in threads, and never put on the device whole (extra 'stream'): for
            # what does not fit in memory. Examples and their order are the same; a dispatch, run.chunk steps, must fit.
            # Images of a folder or of TFDS may then be cropped while they are read, anew for every view: args.area
            'stream': False,
            # From inputs as stored to what networks see, in training and evaluation: module.function in kdjax/data
            'preprocess': {'kind': 'preprocess.unit'},
            # Of what students see: module.function in kdjax/data and its arguments; or several, one after the other
            'augment': {'kind': 'augment.identity'},
            'mix': {},  # of a batch of students: {'kind': 'mix.mixup', 'alpha': 0.2}, ...; the teacher must be 'online'
            'consistent': True,  # the teacher sees the student's pixels; if False, the next of the example's views
            # Widths that batches of padded examples are cut to, each step having one: 8, 16, 24, ...; that of the
            # longest example is added. A batch of a narrower one has a multiple of the fit's batch_size. () for one
            'buckets': (),
            'bucket_run': 10,  # steps in a row with one width, which go in one dispatch
            'views': 1,  # augmented views per example; 1 is the example itself. A cache holds the teacher's on each
            # Examples that students see, () for all: each cell draws its own, stratified, by its seed
            'transfer_sizes': (1000,),
            # 'examples' one by one, or 'groups': all of a group (speaker, user) before the first example of the next
            'draw': 'examples',
            # Of batches: 'own', every seed has its order; or 'shared', all cells with the same examples see the same
            # batches, which are read and augmented once for all of them: seeds then differ in their weights alone
            'order': 'own',
            'classes': (),  # of its transfer set a student sees these classes alone, by number; () for all
            'label_noise': 0.0,  # share of a student's hard labels that are wrong on purpose; its teacher's are right
        }
    )


def upstream() -> ConfigDict:
    """Another data set, from which fits with examples='upstream' learn before others learn from `data` (transfer)."""
    return ConfigDict(
        {
            'source': '',  # as data.source; '' for none
            'args': {},
            'preprocess': {},  # as data.preprocess if empty
            'task': {},  # what it is used for; `task` if empty
            # Modules that are not carried over, and begin anew on `data`, by path or pattern: its classes are others
            'new': ('head',),
        }
    )


def student() -> ConfigDict:
    """The network that is to be small."""
    return ConfigDict(
        {
            'net': 'mlp.mlp',  # module.function in kdjax/nets, or 'my.module:function'
            'args': {'widths': (16,)},  # of that function; what the data say (classes, vocabulary) it is told
            'inputs': 'inputs',  # the column of the data that it reads
            # Weights that it starts from: the folder of an exported student, such a file, or the name of an assistant
            'pretrained': '',
            # Its modules that start as modules of the teacher: {'embedding': 'embedding', 'layer1': 'layer2'}
            'start': {},
        }
    )


def teacher() -> ConfigDict:
    """The network that teaches. `fit` is as for students, on all training examples."""
    return ConfigDict(
        {
            'net': 'mlp.mlp',
            'args': {'widths': (256, 256)},
            # Weights of this network, which then is not trained: a file of PyTorch's (nets/torch_weights.py), or the
            # folder of an exported student
            'weights': '',
            # Such weights, from which its training starts, or the name of an assistant to start as; a file may leave
            # the head to be new
            'pretrained': '',
            # A file of what some network answered to all examples, kdjax/train/given.py: it stands for the teacher, and
            # `net` is not looked at
            'outputs': '',
            # Assistants of any kinds that teach together in its place: their mean probabilities. 'member0/...' are the
            # taps of the first; `net` is not looked at
            'team': (),
            'members': 1,  # networks of this kind, trained apart, that teach together: their mean probabilities
            'augment': {'kind': 'augment.identity'},  # of what it is trained on
            'views': 1,  # augmented views per example while it is trained
            'fit': fit(hard=1.0),
            'inputs': 'inputs',  # the column of the data that it reads: 'teacher_inputs' where they have another for it
            'preprocess': {},  # from that column as stored to what it sees; as data.preprocess if empty
            # Arguments of data.source that are its own, such as a vocabulary: students learn what it writes, as text
            'data_args': {},
            # Networks of this kind, each trained on all training examples but a fold, which label the examples of it:
            # an over-fitted teacher says nothing new about what it was trained on. 0 for none
            'folds': 0,
            'keep': 0,  # classes that a cache keeps of what it says of an example, the most probable; 0 for all
            'bound': 0.0,  # nats by which what is kept may be off, which then chooses how many classes are; 0 for none
            'mode': 'cached',  # 'cached': outputs are computed once and looked up; 'online': in every step
            'precision': '',  # of its activations while it teaches: 'float32', 'bfloat16', or '' for run.precision
        }
    )


def fit(**weights: float) -> ConfigDict:
    """One training run of each cell: the weights of the terms it uses, its length and its optimiser."""
    return ConfigDict(
        {
            'weights': dict(weights),  # term -> its weight in the sum; knobs
            'steps': 1000,  # updates
            'batch_size': 32,  # examples per update, over all devices
            'accumulate': 1,  # micro-batches per update, where memory is short
            'learning_rate': 1e-3,  # peak, 1/update; knob
            'weight_decay': 0.0,  # as the optimiser applies it; knob
            'terms_learning_rate': 1e-3,  # of what terms learn (regressors, heads); knob
            'terms_weight_decay': 0.0,  # of what terms learn; knob
            'optim': {'name': 'adamw', 'schedule': 'cosine', 'warmup': 0},  # arguments of kdjax.train.optim.build
            'teacher': 'teacher',  # who teaches: 'teacher', an assistant, 'average', the student's moving average, or
            # 'before', the student as the fit before left it, or 'dense', the student with the weights that are gone
            # put back, and nothing rounded
            # Which examples students see: 'transfer', their transfer set; or 'all' of the training split, of which
            # those outside the transfer set have no labels: they serve the terms that read none; or 'upstream', all of
            # the training split of `upstream`, in the place of these data, at the beginning of a method
            'examples': 'transfer',
            # Modules of the network that are trained, by path or pattern, the rest being frozen: ('head',); () for all
            'trains': (),
            # Student's taps behind which it goes on from a teacher's tap of that shape while it trains, so that each
            # block learns on the teacher's input: {'stage1': 'stage1'}; see kdjax/train/blockwise.py
            'blockwise': {},
            # Term whose paper answers with what it learned, in the student's place ('simkd'); '' for the student alone
            'answer': '',
            # What is done to the student first, and stays done: {'kind': 'quantize'}, rounded products of `bits` and
            # `input_bits`; {'kind': 'narrow', 'keep': 0.5}, that share of its channels, by 'score':
            # 'group_norm', 'scale' of normalisation, or 'taylor', by gradients of this fit on so many 'batches';
            # {'kind': 'factor', 'ranks': {'dense1/kernel': 8}}, kernels as products; {'kind': 'share', 'bits': 6}, few
            # numbers in each kernel.
            # Zeros are the optimiser's: optim.pruning and `sparsity`
            'change': {},
            'sparsity': 0.0,  # share of weights that are zero in the end, if optim.pruning is 'layer' or 'global'; knob
            'bits': 8.0,  # of weights, where the fit rounds, 2 ... 15; 16 and more are not rounded; knob
            'input_bits': 8.0,  # of what is multiplied with them; knob
            'rank': 0.0,  # of the factors, where the fit makes such, at most; 0 for what `change` says; knob
            # Who writes what a step reads, of tasks that write: {} for the data alone; {'kind': 'student'}, after a
            # `prompt` of the data; 'teacher'; 'mixed', both, of whom the teacher has a `share`; or 'replay', the
            # student, whose texts are kept and read again. `by` 'examples' or 'batches': see kdjax/train/texts.py
            'texts': {},
            'on_policy': 0.5,  # share of the examples that are so written; of 'replay' at first; knob
            'sampling_temperature': 1.0,  # of what is drawn from, apart from those of terms; knob
            # Attributes of the task that this fit has for itself, of those that say what a batch teaches: of
            # translation {'learned': 'best'}, a teacher's translations in the place of references
            'task': {},
            'peers': 1,  # students that learn side by side, for terms that read the tap 'peers'; the first is kept
        }
    )


def run() -> ConfigDict:
    """How it is executed; changes nothing but rounding."""
    return ConfigDict(
        {
            # 'auto': all devices, grids split by cells and single networks by the examples of a batch; or 'single',
            # 'pmap', 'sharded', 'shard_map', 'cells', or 'fsdp' for networks that one device has no memory for: see
            # kdjax/train/parallel.py
            'runner': 'auto',
            # Of a grid: 'vmap' (small dense networks), 'map' (one after the other: large ones), 'unroll' (a list, of a
            # few cells), 'cells' (over devices), or 'auto': as a short measurement on this machine chooses.
            'layout': 'vmap',
            'cells': 64,  # of a sweep that one grid may have, at most
            'memory': 0.0,  # GB that a grid may take; 0 for half of what the device has
            'precision': 'float32',  # of activations; or 'bfloat16'. Parameters and losses stay float32
            'chunk': 50,  # steps per dispatch, at most: slow steps go in dispatches of about a second
            'validate_every': 250,  # steps
            'save_every': 500,  # steps between checkpoints: what a kill can cost
            'profile': 0,  # dispatches of each fit of which a profiler's trace is written, to 'profile' in its folder
            'anatomy_every': 0,  # steps between looks at the gradients of students' terms; 0, never, costs nothing
            # What is compiled for a CPU; if not, compiling takes half as long and the rest longer: for a quick look
            'optimise': True,
            'tflops': 0.0,  # TFLOP/s that a device reaches in a step, from which --mode=plan reckons hours; 0 for none
        }
    )


def launch() -> ConfigDict:
    """Where the workers of a sweep run; changes no result, and no address of one."""
    return ConfigDict(
        {
            'where': 'here',  # 'here': one, this process; 'pool': several on this machine; 'slurm': jobs of a cluster
            'processes': 2,  # of a pool; the cores of the machine are divided among them
            'slurm': slurm(),
        }
    )


def slurm() -> ConfigDict:
    """An array job, submitted by submitit (extra 'slurm'). What is 0 or empty is left to the cluster."""
    return ConfigDict(
        {
            'cluster': 'slurm',  # or 'local' (processes of submitit on this machine), 'debug' (in this process)
            'tasks': 8,  # workers, each a job of the array
            'parallel': 0,  # jobs that may run at once; 0 is all
            'partition': '',  # queue
            'minutes': 60,  # time of a job; one that needs more saves before its end and is queued again
            'cpus': 4,  # cores of a job
            'gpus': 0,  # of a job
            'memory': 0.0,  # GB of a job
            'extra': {},  # further parameters of sbatch, such as {'account': 'name', 'constraint': 'a100'}
        }
    )


def accept() -> ConfigDict:
    """Bars that a result must meet, on validation. 0 means no bar."""
    return ConfigDict(
        {
            'method': 'combined',  # whose result is judged
            'transfer_size': 0,  # at which size; 0 is the largest
            'score': 0.0,  # of the task, mean over seeds, as stored: a share is in [0, 1]
            'accuracy': 0.0,  # the same, as classification calls it
            'gap_recovered': 0.0,  # (student - baseline) / (teacher - baseline)
            'max_params': 0,  # parameters of the student
            # What is shipped, as of --formats: 'litert-int8', 'onnx', 'c' ... Score, bytes, milliseconds and memory are
            # then those of this file, in its own runtime on this machine. '' for the weights alone
            'file': '',
            'max_kilobytes': 0.0,  # 1000 bytes: of the file; or of the weights deflated, with what is zero and rounded
            'latency_ms': 0.0,  # median of one example with one thread; of a file
            'max_ram_kilobytes': 0.0,  # 1000 bytes that it runs in: of a file of LiteRT at least, of C at most
            'accuracy_drop': 0.0,  # by how much its score may be worse than the baseline's, as stored
        }
    )


def retry() -> ConfigDict:
    """What to try where a bar is not met: one value after the other, at most `attempts` of them."""
    return ConfigDict(
        {
            'attempts': 0,  # beyond the first run
            'temperature': (),  # of every term that has one
            'weight': (),  # of the judged method's soft term(s), every term but the task's
            'learning_rate': (),  # of the judged method's last fit
            'sparsity': (),  # of the judged method's fits that prune
            'bits': (),  # of the judged method's fits that round
            'transfer_size': (),  # more examples, from the part of the training set held back so far
        }
    )


def tune() -> ConfigDict:
    """How `--mode=tune` looks for a better setting of `accept.method`; a file's `space(arg)` says where."""
    return ConfigDict(
        {
            'trials': 48,  # settings that are tried, at most; fewer if the bars of `accept` are met before
            'batch': 16,  # settings that train side by side, each with all seeds
            'parts': 3,  # of a fit; after each but the last, settings that fall behind stop
            'keep_one_in': 3,  # the share that goes on, and how much longer each part is than all before
        }
    )


def arguments(text: str, **defaults: bool | int | float | str) -> dict:
    """Parses the part of --config after the colon: 'quick,student=tiny'. Types are those of the defaults.

    Raises:
      UsageError: an unknown name, or a value of another type.
    """
    found = dict(defaults)
    for part in filter(None, text.split(',')):
        name, equals, value = part.partition('=')
        if name not in defaults:
            raise unknown('config argument', name, defaults)
        kind = type(defaults[name])
        if kind is bool:
            if value not in ('', 'true', 'false'):
                raise UsageError(f'config argument {name!r} is a switch: write {name} or {name}=false, got {part!r}')
            found[name] = value != 'false'
            continue
        if not equals:
            raise UsageError(f'config argument {name!r} needs a value: {name}=...')
        try:
            found[name] = kind(value)
        except ValueError as error:
            raise UsageError(f'config argument {name!r} must be of type {kind.__name__}, got {value!r}') from error
    return found
