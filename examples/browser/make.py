"""Writes the files that the page reads: teacher and student of a run of experiments/edge, as ONNX.

Command: python make.py WORKDIR   (the folder 'camera' of experiments/edge's workdir; extra 'onnx')
"""

import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import kdjax
from experiments.edge import config, edge
from kdjax.export import files
from kdjax.study.recipe import students


def main(workdir: Path, to: Path = HERE) -> list[Path]:
    """Writes teacher.onnx, student.onnx and student.int8.onnx; returns them."""
    soft = kdjax.load(workdir, 'soft labels')
    teacher, dataset = edge.taught(soft, workdir, config.get_config('task=camera')), students.dataset_of(soft)
    asked = (('teacher', teacher, 'onnx'), ('student', soft, 'onnx'), ('student.int8', soft, 'onnx-int8'))
    for name, student, kind in asked:
        with tempfile.TemporaryDirectory() as folder:
            told = files.export(student, Path(folder), [kind], dataset).about['files'][kind]
            shutil.copyfile(Path(folder) / told['file'], to / f'{name}.onnx')
    return [to / f'{name}.onnx' for name, _, _ in asked]


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit('usage: python make.py WORKDIR')
    print('\n'.join(map(str, main(Path(sys.argv[1])))))
