"""Found on PYTHONPATH by the processes of test_signals.py: holds one of them at a moment.

MOMENT is `module:attribute:n`: the n-th call of that function; without an attribute, the import
of the module. The process that comes there first leaves its number in the file `reached` of
STRIKE, and waits, in Python, until the test has sent its signal and left the file `struck`; or
until the signal's handler raises.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import time


def _hold(folder):
    try:
        os.write(os.open(f"{folder}/reached", os.O_WRONLY | os.O_CREAT | os.O_EXCL),
                 str(os.getpid()).encode())
    except FileExistsError:
        return
    end = time.monotonic() + 300
    while not os.path.exists(f"{folder}/struck") and time.monotonic() < end:
        time.sleep(0.005)


def _wrapped(function, number, folder):
    count = 0

    def call(*arguments, **named):
        nonlocal count
        count += 1
        if count == number:
            _hold(folder)
        return function(*arguments, **named)

    return call


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the function when its module was executed; finds nothing else."""

    def __init__(self, module, attribute, number, folder):
        self.module, self.attribute = module, attribute
        self.number, self.folder = number, folder

    def find_spec(self, name, path, target=None):
        if name != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            if not self.attribute:
                _hold(self.folder)
            execute(module)
            if not self.attribute:
                return
            *owners, last = self.attribute.split(".")
            owner = module
            for part in owners:
                owner = getattr(owner, part)
            setattr(owner, last, _wrapped(getattr(owner, last), self.number, self.folder))

        spec.loader.exec_module = exec_module
        return spec


if "MOMENT" in os.environ:
    module, attribute, number = os.environ["MOMENT"].split(":")
    sys.meta_path.insert(0, _Finder(module, attribute, int(number), os.environ["STRIKE"]))
