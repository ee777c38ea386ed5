"""Run cases of the fuzz in processes that live for many of them.

``python -m tests.fuzz_processes START STOP`` runs some cases here, and says of each
what was drawn and what is wrong with it; with a number of processes behind, it runs
them there, and lists what is wrong by its kind. A process that ends by a signal takes
one case with it, and the next goes on behind that; what has spoilt its memory may have
come some cases before.
"""

import collections
import contextlib
import io
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_cases(start, stop):
    """Yield (number, None, words) as a case begins, and what is wrong with it."""
    from tests.fuzz_cases import draw_case, fault_of

    for number in range(start, stop):
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case = draw_case(number)
            yield number, None, case.words
            fault = fault_of(case)
        if fault:
            yield number, fault, case.words


def _tell(start, stop):
    for number, fault, words in run_cases(start, stop):
        fields = (str(number), fault or "", " ".join(words))
        sys.stdout.write("\t".join(map(_printable, fields)) + "\n")
        sys.stdout.flush()


def _printable(text):
    return text.encode("unicode_escape").decode("ascii")


def faults_in(start, stop):
    """Run cases in one process after the other; return (number, fault, words)."""
    faults = []
    while start < stop:
        command = [sys.executable, "-m", "tests.fuzz_processes", str(start), str(stop)]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as run:
            last, words = start - 1, ""
            watch = _Watch(run)
            for line in run.stdout:
                watch.lives()
                number, fault, words = line.rstrip("\n").split("\t")
                last = int(number)
                if fault:
                    faults.append((last, fault, words))
            code = run.wait()
            watch.stop()
        if code:
            how = signal.Signals(-code).name if code < 0 else f"code {code}"
            faults.append((last, f"the process ended by {how}", words))
            start = max(last, start) + 1
        else:
            start = stop
    return faults


class _Watch:
    """Ends a process that has said nothing for two minutes."""

    def __init__(self, process):
        self._process = process
        self._timer = None
        self.lives()

    def lives(self):
        """Begin to wait anew."""
        self.stop()
        self._timer = threading.Timer(120, self._process.kill)
        self._timer.daemon = True
        self._timer.start()

    def stop(self):
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()


def faults_of(n_cases, n_processes=2, first=0):
    """Run cases in some processes side by side; return what is wrong."""
    cuts = [first + n_cases * part // n_processes for part in range(n_processes + 1)]
    found = [[] for _ in range(n_processes)]

    def work(part):
        found[part] = faults_in(cuts[part], cuts[part + 1])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(n_processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [fault for part in found for fault in part]


def described(faults):
    """List faults by their kind, with the first cases of each."""
    kinds = collections.defaultdict(list)
    for number, fault, words in faults:
        kinds[fault].append((number, words))
    lines = []
    for fault, cases in sorted(kinds.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(cases)} x {fault}")
        lines += [f"    case {number}: {words}" for number, words in cases[:3]]
    return "\n".join(lines)


if __name__ == "__main__":
    first, last = int(sys.argv[1]), int(sys.argv[2])
    if len(sys.argv) > 3:
        began = time.perf_counter()
        told = described(faults_of(last - first, int(sys.argv[3]), first))
        sys.stdout.write(f"{told}\n{time.perf_counter() - began:.0f} s\n")
    else:
        _tell(first, last)
