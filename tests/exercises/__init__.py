"""The exercise checker: blank out a function of the library, let somebody write it, and judge what they wrote.

    python -m tests.exercises list | start | check | next | hint | diff | watch | reset | audit

Read in this order:
    catalogue.py   what an exercise is, and where the list of them is read from
    surgery.py     cutting a function's body out of a source file, byte for byte, and putting another in
    workspace.py   the learner's working copy: stubs, grafts, backups
    judge.py       asking a process of its own for a verdict; child.py is that process, lessons.py what it says of
                   exceptions, uncompiled.py its stand-in for Numba
    trial.py       what a judging test uses: one call of the learner's code, and what should have come out;
                   rehearsal.py calls before that, chance.py judges what was drawn
    causes.py      guessing why an answer is wrong, by comparing it with the right one
    report.py      telling the learner
    audit.py       what continuous integration asks of every exercise; mutants.py, wrapped.py, mistakes.py and
                   solutions.py feed it
"""
