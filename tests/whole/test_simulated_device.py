"""Run the tests on an accelerator in processes of their own, and report each by name.

Loading the simulated device makes it the process's accelerator for good, which would
change what every other test sees.
"""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from simulated_device.library import build, missing
from tests.processes import run_code

CHECKS = Path(__file__).parents[1] / "simulated_device"
DEVICES = {"two_devices": "2"}
TOPICS = sorted(path.stem.removeprefix("check_") for path in CHECKS.glob("check_*.py"))
FAULTY = {"memory", "package"}  # where the device runs out of memory


def path_of_helpers():
    """Put the folder of `simulated_device` before what is there."""
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(CHECKS.parent), *([before] if before else [])])


def run_checks(path, report, *, options=(), devices="1"):
    """Run one file of checks; give its cases, and what the process wrote."""
    arguments = [
        *("-o", "python_files=check_*.py", "-p", "no:cacheprovider"),
        *(f"--junit-xml={report}", *options, str(path)),
    ]
    run = run_code(
        "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))",
        *arguments,
        cwd=CHECKS.parents[1],
        env=os.environ | {"SIMDEV_DEVICES": devices, "PYTHONPATH": path_of_helpers()},
    )
    output = f"exit status {run.returncode}\n{run.stdout}{run.stderr}"
    if not report.exists():  # it crashed
        return [], output
    return list(ET.parse(report).iter("testcase")), output  # noqa: S314 - our own file


def outcome(case):
    """Give what became of a case, and its text: of the first of failures and errors."""
    for tag in ("failure", "error", "skipped"):
        if (element := case.find(tag)) is not None:
            return tag, element.text or element.get("message")
    return "passed", ""


def report_cases(subtests, cases, output):
    """Let every case be a subtest with its own text."""
    assert cases, output
    for case in cases:
        with subtests.test(case.get("name")):
            result, text = outcome(case)
            if result == "skipped":
                pytest.skip(text)
            if result != "passed":
                pytest.fail(text, pytrace=False)


@pytest.fixture(scope="session")
def built():
    """Build the device, where it can be."""
    if reason := missing():
        pytest.skip(f"no simulated accelerator: {reason}")
    build()


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    "topic",
    [
        pytest.param(topic, marks=[pytest.mark.faults] if topic in FAULTY else [])
        for topic in TOPICS
    ],
)
def test_on_the_simulated_accelerator(subtests, tmp_path, topic):
    cases, output = run_checks(
        CHECKS / f"check_{topic}.py",
        tmp_path / "report.xml",
        devices=DEVICES.get(topic, "1"),
    )
    report_cases(subtests, cases, output)


@pytest.mark.gpu
def test_the_package_on_a_real_accelerator(subtests, tmp_path, monkeypatch):
    # `conftest` has hidden it from this process.
    visible = os.environ["CUDA_VISIBLE_DEVICES"] or "0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    asks = "import sys, torch; sys.exit(not torch.accelerator.is_available())"
    if subprocess.run([sys.executable, "-c", asks], check=False).returncode:
        pytest.skip("this machine has no accelerator")
    cases, output = run_checks(
        CHECKS / "check_package.py",
        tmp_path / "report.xml",
        options=["--accelerator=real"],
    )
    report_cases(subtests, cases, output)


@pytest.mark.usefixtures("built")
def test_a_hazard_or_memory_left_behind_fails_the_check(tmp_path):
    path = tmp_path / "check_these.py"
    path.write_text(
        "import torch\n"
        "KEPT = []\n"
        "def test_hazard(device):\n"
        "    x = torch.ones(3, device=device)\n"
        "    with torch.Stream():\n"
        "        x + 1\n"
        "def test_leak(device): KEPT.append(torch.ones(3, device=device))\n"
        "def test_clean(device): assert torch.ones(3, device=device).sum() == 3\n"
    )
    fixtures = ["-p", "simulated_device.conftest"]
    cases, _ = run_checks(path, tmp_path / "report.xml", options=fixtures)
    (hazard, text), (leak, _), clean = map(outcome, cases)
    assert (hazard, leak, clean[0]) == ("error", "error", "passed")
    assert "without having waited for it" in text


def test_failures_and_crashes_are_told_with_their_text(tmp_path):
    path, report = tmp_path / "check_these.py", tmp_path / "report.xml"
    path.write_text(
        "def test_right(): pass\ndef test_wrong(): assert 'the left' == 'the right'\n"
    )
    right, wrong = run_checks(path, report)[0]
    assert outcome(right) == ("passed", "")
    assert outcome(wrong)[0] == "failure"
    assert "assert 'the left' == 'the right'" in outcome(wrong)[1]
    report.unlink()
    path.write_text("import os\ndef test_crash(): os.abort()\n")
    cases, output = run_checks(path, report)
    assert cases == []
    assert "Fatal Python error: Aborted" in output
    assert "test_crash" in output
