#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the other files of this folder: logs of real runs, and what sacreBLEU, SimulEval and jiwer say of them.

`translate.log` is what `runnel translate` writes, `remote.log` what SimulEval itself writes while it evaluates
`runnel serve`. The model is any that translates English to German and French, such as that of
examples/training/multi30k.json; FOLDER has test_2016_flickr.en, .de and .fr of Multi30k, of which the first 40 sentences
are taken.

Usage: generate_runs.py RUNNEL MODEL FOLDER   (needs what ../generate.py needs, and: pip install requests)
"""

import json
import pathlib
import subprocess
import sys
import tempfile
from argparse import Namespace

import jiwer
import sacrebleu
from simuleval.evaluator import SentenceLevelEvaluator

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent), str(HERE.parents[3] / "benchmarks" / "peers")]
from generate import whisper_normalizer  # noqa: E402
from simuleval_remote import METRICS, simuleval_of  # noqa: E402

NUM_SENTENCES = 40


def score_only(log, folder, aware):
    """The numbers of `simuleval --score-only`, before it rounds them; with --computation-aware both kinds are aware."""
    (folder / "config.yaml").write_text("source_type: text\ntarget_type: text\n")
    (folder / "instances.log").write_text(log, encoding="utf-8")
    args = Namespace(output=str(folder), score_only=True, no_scoring=False, eval_latency_unit="word", latency_metrics=METRICS,
                     quality_metrics=["BLEU", "WER"], computation_aware=aware, no_use_ref_len=False,
                     no_progress_bar=True, sacrebleu_tokenizer="13a")  # fmt: skip
    evaluator = SentenceLevelEvaluator.from_args(args)
    return {**evaluator.quality, **evaluator.latency}


def scores_of(log, folder):
    lines = [json.loads(line) for line in log.splitlines()]
    hypotheses = [line["prediction"] for line in lines]
    references = [line["reference"] for line in lines]
    normalise = whisper_normalizer()
    plain = [normalise(text) for text in hypotheses], [normalise(text) for text in references]
    result = {**score_only(log, folder, True), **score_only(log, folder, False)}
    assert abs(result.pop("WER") - 100 * jiwer.wer(references, hypotheses)) < 1e-9
    assert abs(result["BLEU"] - sacrebleu.corpus_bleu(hypotheses, [references]).score) < 1e-9
    return {**result,
            "chrF2": sacrebleu.corpus_chrf(hypotheses, [references]).score,
            "chrF2++": sacrebleu.corpus_chrf(hypotheses, [references], word_order=2).score,
            "WER": 100 * jiwer.wer(references, hypotheses), "CER": 100 * jiwer.cer(references, hypotheses),
            "WER_normalized": 100 * jiwer.wer(plain[1], plain[0]),
            "CER_normalized": 100 * jiwer.cer(plain[1], plain[0])}  # fmt: skip


def main():
    runnel, model, texts = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for language in ("en", "de", "fr"):
            lines = (pathlib.Path(texts) / f"test_2016_flickr.{language}").read_text(encoding="utf-8").splitlines()
            (folder / language).write_text("".join(line + "\n" for line in lines[:NUM_SENTENCES]), encoding="utf-8")
        subprocess.run([runnel, "translate", "-m", model, "--instruction", "German", "--source", folder / "en", "--target",
                        folder / "de", "-k", "3", "--output", folder / "ours"], check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        server = subprocess.Popen([runnel, "serve", "-m", model, "--instruction", "French", "-k", "5", "--port", "0"],
                                  stdout=subprocess.PIPE, text=True)  # fmt: skip
        try:
            port = server.stdout.readline().strip().rsplit(":", 1)[1]
            simuleval_of(port, folder / "en", folder / "fr", folder / "theirs")
        finally:
            server.terminate()
            server.wait()
        scores = {}
        for log, written in (("translate.log", "ours"), ("remote.log", "theirs")):
            text = (folder / written / "instances.log").read_text(encoding="utf-8")
            (HERE / log).write_text(text, encoding="utf-8")
            scores[log] = scores_of(text, folder / "ours")
    (HERE / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
