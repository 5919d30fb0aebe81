#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes three short tones as WAV files, and the manifest that lists them: recordings/.

    python make_recordings.py     (needs nothing but Python)
"""

import math
import pathlib
import struct
import wave

HERE = pathlib.Path(__file__).parent / "recordings"
RATE = 8000
TONES = [("one", 400, 0.05), ("two", 700, 0.04), ("three", 1100, 0.06)]


def main():
    HERE.mkdir(exist_ok=True)
    lines = []
    for name, hertz, seconds in TONES:
        samples = [round(8000 * math.sin(2 * math.pi * hertz * i / RATE)) for i in range(round(RATE * seconds))]
        with wave.open(str(HERE / f"{name}.wav"), "wb") as out:
            out.setparams((1, 2, RATE, 0, "NONE", ""))
            out.writeframes(struct.pack(f"<{len(samples)}h", *samples))
        lines.append(f"{name}.wav\t{name}\ttones\n")
    (HERE / "list.tsv").write_text("".join(lines))


main()
