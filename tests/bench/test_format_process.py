"""The memory of an exported file is that of the model, not of the import of its runtime."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run(*lines: str) -> str:
    """Run lines in a process of its own."""
    program = "\n".join(["from t2tbuild.bench.format_process import *", *lines])
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_the_peak_of_the_import_is_forgotten() -> None:
    large = "x = np.ones(40_000_000); del x"
    peak, now = map(int, run(large, "forget_peak()", "print(read_memory('VmHWM'), read_memory('VmRSS'))").split())
    assert peak - now < 100e6  # the array has 320 MB


def test_the_plugin_of_openvino_is_loaded_before() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    assert run("load_runtime('openvino')", "print('cpu_plugin' in Path('/proc/self/maps').read_text())") == "True\n"
