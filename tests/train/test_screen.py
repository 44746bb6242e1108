"""Progress in a log."""

import re

from kdjax.train import screen


def test_a_log_has_a_line_at_the_start_and_the_end_of_a_stage_and_between_at_most_every_so_often(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(screen.time, 'monotonic', lambda: now[0])
    with screen.Screen() as shown:
        shown.count(2)
        shown.stage('teacher', 1000)
        for done in range(10, 1001, 10):
            now[0] += 1.0
            shown.step(done, 0.5, 'accuracy 93.20 %')
        shown.finished(100.0)
        shown.stage('cache')
        shown.finished()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == '[1/2] teacher: 1000 steps'
    assert lines[1] == '[1/2] teacher: step 300 of 1000, 10 steps/s, ETA 0:01:10, loss 0.5, accuracy 93.20 %'
    assert [re.search(r'step (\d+)', line)[1] for line in lines[1:4]] == ['300', '600', '900']
    assert lines[4:] == ['[1/2] teacher: done in 100.0 s, loss 0.5, accuracy 93.20 %', '[2/2] cache',
                         '[2/2] cache: done before']  # fmt: skip


def test_what_is_done_before_the_first_step_is_said_and_is_no_part_of_the_rate(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(screen.time, 'monotonic', lambda: now[0])
    with screen.Screen() as shown:
        shown.stage('kd x 9', 100)
        for layout in ('map', 'vmap'):
            shown.before(f'layout {layout} is timed')
            now[0] += 300.0
        for done in (10, 20, 60):
            now[0] += 31.0
            shown.step(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == 'kd x 9: step 0 of 100, layout vmap is timed'
    assert lines[-1] == f'kd x 9: step 60 of 100, {50 / 62:.3g} steps/s, ETA 0:00:50'


def test_nothing_is_said_where_it_is_quiet(capsys):
    with screen.Screen(quiet=True) as shown:
        shown.note('x')
        shown.stage('teacher', 3)
        shown.step(1)
        shown.finished(1.0)
    assert capsys.readouterr() == ('', '')
