#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lets SimulEval itself evaluate `runnel serve` as a remote agent, and compares its scores with ours.

SimulEval 1.1.4 sends the sentences, word by word, and scores what comes back; `runnel score` scores SimulEval's log, and
`runnel translate` runs the same sentences without a network. Prints all of it, and fails unless SimulEval and `score` agree on
every score, and `translate` on words and delays. One difference is allowed, and counted: a model may go on with a word that
had seemed complete, once it has read more. `translate` knows then that it was one word; SimulEval was told the beginning
already, and takes the rest for another. Scores of `translate` are compared on the other sentences.

Two slips of SimulEval 1.1.4 are mended from here: its remote evaluator looks for `instance_iterator`, which is called
`iterator`, and its text segments name a Python type as their language, which JSON cannot hold.

Usage: simuleval_remote.py RUNNEL SOURCE TARGET -- options of `runnel serve`, such as -m model.gguf --wait-k 3
Needs: pip install simuleval textgrid pandas more_itertools editdistance
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from simuleval import options
from simuleval.data import segments
from simuleval.evaluator import SentenceLevelEvaluator
from simuleval.evaluator.remote import RemoteEvaluator

METRICS = ["AL", "LAAL", "AP", "DAL"]


def simuleval_of(port, source, target, output):
    """SimulEval's scores of the agent at a port of this machine; its files go to `output`."""
    segments.TextSegment.__init__.__defaults__ = tuple(
        None if default not in (0, "", False, "text") else default
        for default in segments.TextSegment.__init__.__defaults__
    )
    sys.argv = ["simuleval", "--remote-eval", "--remote-address", "127.0.0.1", "--remote-port", str(port), "--source",
                str(source), "--target", str(target), "--source-type", "text", "--target-type", "text", "--output",
                str(output), "--no-progress-bar", "--latency-metrics", *METRICS]  # fmt: skip
    parser = options.general_parser()
    options.add_dataloader_args(parser)
    options.add_evaluator_args(parser)
    options.add_scorer_args(parser)
    evaluator = SentenceLevelEvaluator.from_args(parser.parse_args())
    evaluator.instance_iterator = evaluator.iterator
    RemoteEvaluator(evaluator).remote_eval()
    return {name: column[0] for name, column in evaluator.results.items()}


def score(runnel, log):
    return json.loads(subprocess.check_output([runnel, "score", "--instances", log], text=True))


def scores_without(runnel, folder, lines, left_out):
    """Scores of the lines of a log whose index is not left out, counted anew."""
    rest = [line for line in lines if line["index"] not in left_out]
    path = pathlib.Path(folder) / "rest.log"
    path.write_text("".join(json.dumps(line | {"index": i}) + "\n" for i, line in enumerate(rest)), encoding="utf-8")
    return score(runnel, path)


def read_log(folder):
    lines = (pathlib.Path(folder) / "instances.log").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("runnel", "source", "target"):
        parser.add_argument(name)
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = pathlib.Path(folder) / "simuleval", pathlib.Path(folder) / "runnel"
        server = subprocess.Popen([args.runnel, "serve", "--port", "0", *args.options], stdout=subprocess.PIPE, text=True)
        try:
            address = server.stdout.readline().strip()
            scores = simuleval_of(address.rsplit(":", 1)[1], args.source, args.target, theirs)
        finally:
            server.terminate()
            server.wait()
        scored = score(args.runnel, theirs)
        subprocess.run([args.runnel, "translate", "--source", args.source, "--target", args.target, "--output", ours,
                        *args.options], check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        local = score(args.runnel, ours)
        pairs = list(zip(read_log(theirs), read_log(ours), strict=True))
        agree, went_on = compare(pairs)
        rest = [scores_without(args.runnel, folder, lines, went_on) for lines in zip(*pairs)]
    print(f"{len(pairs)} sentences, {len(went_on)} with a word that went on\n{'':8}{'SimulEval':>12}{'score':>12}{'translate':>12}")
    for name in ["BLEU", *METRICS]:
        print(f"{name:8}{scores[name]:12.3f}{scored[name]:12.3f}{local[name]:12.3f}")
        agree = agree and abs(scores[name] - scored[name]) < 0.00051 and abs(rest[0][name] - rest[1][name]) < 1e-9
    print("they agree" if agree else "they differ")
    sys.exit(0 if agree else 1)


def compare(pairs):
    """Whether all sentences have the same words and delays, and which had a word that went on."""
    agree = True
    went_on = set()
    for remote, direct in pairs:
        same = all(remote[key] == direct[key] for key in ("prediction", "delays", "source_length"))
        if not same and len(remote["delays"]) > len(direct["delays"]):
            same = remote["prediction"].replace(" ", "") == direct["prediction"].replace(" ", "")
            went_on |= {remote["index"]} if same else set()
        if not same:
            print(f"sentence {remote['index']}: {remote['prediction']!r} {remote['delays']}, "
                  f"without the network {direct['prediction']!r} {direct['delays']}")  # fmt: skip
        agree = agree and same
    return agree, went_on


if __name__ == "__main__":
    main()
