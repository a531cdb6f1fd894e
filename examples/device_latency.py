"""Print the median seconds of one image: python device_latency.py MODEL.onnx. It runs on the device, without torch."""

import statistics
import sys
import time

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
image = np.zeros([size if isinstance(size, int) else 1 for size in given.shape], dtype=np.float32)
times = []
for _ in range(20):
    started = time.perf_counter()
    session.run(None, {given.name: image})
    times.append(time.perf_counter() - started)
print(statistics.median(times))
