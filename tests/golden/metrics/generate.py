#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the other files of this folder: what sacreBLEU, jiwer, SimulEval and Whisper's normaliser say of texts.

The sentences are made here, from a grammar of a few lines and a list of awkward strings. Latencies come from SimulEval's
scorers and, to be sure of the formulas, from the plain functions below; both have to agree.

Usage: generate.py   (needs: pip install sacrebleu jiwer simuleval openai-whisper textgrid pandas more_itertools regex)
"""

import importlib.util
import json
import pathlib
import random
import sys
import types

import jiwer
import sacrebleu
import sacrebleu.significance
from sacrebleu.metrics import BLEU, CHRF

HERE = pathlib.Path(__file__).resolve().parent

WHO = ["A man", "Two women", "A young girl in a red coat", "Three dogs", "An old couple", "The tall boy", "Some people",
       "A street musician", "A mother and her two-year-old son", "Several children"]  # fmt: skip
DOES = ["is sitting on", "are walking along", "jumps over", "stands next to", "are looking at", "rides past",
        "is playing in front of", "runs towards", "sleeps under", "is pointing to"]  # fmt: skip
WHAT = ["a wooden bench", "the crowded street", "a small fence", "the blue car", "an old piano", "the river",
        "a half-finished house", "the market (near the station)", "a tree", "12,500 empty bottles"]  # fmt: skip
END = [".", " while it rains.", ", holding an umbrella.", " at 5:30 p.m.", "!", "; nobody cares.", " - and waves.", "",
       " in the 1960s.", ' and says "hello".']  # fmt: skip
WER_WORDS = "der die das ein eine Mann Frau Hund läuft sitzt auf neben vor der Straße, Bank. schnell ô çà 3.5 2-3".split()


def sentence(draw):
    return f"{draw.choice(WHO)} {draw.choice(DOES)} {draw.choice(WHAT)}{draw.choice(END)}"


def spoil(text, draw, share):
    words = text.split(" ")
    out = []
    for word in words:
        what = draw.random()
        if what < share / 4:
            continue
        if what < share / 2:
            out.append(draw.choice(WER_WORDS))
        elif what < 3 * share / 4:
            out += [word, word]
        elif what < share:
            out.append(word.lower() if word != word.lower() else word.title())
        else:
            out.append(word)
    if draw.random() < share and len(out) > 2:
        i = draw.randrange(len(out) - 1)
        out[i], out[i + 1] = out[i + 1], out[i]
    return " ".join(out)


def real_corpus(count, share, seed):
    draw = random.Random(seed)
    references = [sentence(draw) for _ in range(count)]
    return [spoil(text, draw, share) for text in references], references


NASTY = [
    ("", "Nothing was written ."), ("Something was written", ""), ("", ""), ("a", "a"), ("a", "b"), (".", "."),
    ("a b", "a b"), ("a b c", "a b c"), ("It costs 1,234.56 dollars.", "It costs 1,234.56 dollars."),
    ("It costs 1 , 234 . 56 dollars .", "It costs 1,234.56 dollars."), ("3.14, 2.71,and 1.", "3.14 , 2.71, and 1 ."),
    ("a.b,c", "a. b, c"), ("...", ". . ."), ("....,,,,", "...."), ("1...2", "1. ..2"), (",5", ", 5"), ("5,", "5 ,"),
    ("x-y 3-y x-3 3-4 3--4 -3", "x - y 3 - y x-3 3 -4"), ("&quot;Hi&quot; &amp; &lt;b&gt;", '"Hi" & <b>'),
    ("&amp;lt; &amp;quot; &apos;", "&lt; \" '"), ("a <skipped> b<skipped>c", "a b c"), ("end-", "end -"),
    ("don't can’t l'eau", "don 't can ’ t l' eau"), ("«Ça va ?» — demanda-t-il…", "« Ça va ? » - demanda-t-il ..."),
    ("„Straße“ ÄÖÜ äöü ß ẞ", "„ strasse “ äöü ÄÖÜ ẞ ß"), ("日本語のテキスト、です。", "日本語 の テキスト 、 です 。"),
    ("a\u00a0b\u2003c\u3000d", "a b c d"), ("tab\there", "tab here"), ("  spaces   everywhere  ", "spaces everywhere"),
    ("e\u0301te\u0301", "été"), ("\U0001f600 \U0001f468\u200d\U0001f469", "\U0001f600 :)"),
    ("A/B [C] {D} (E) <F> |G| ~H @I #J $K %L ^M *N +O =P `Q \\R", "A / B C D E F G H @I # J $K %L ^ M *N + O = P ` Q"),
    ("(hi) 'yes' \"no\" --", "( hi ) ' yes ' \" no \" - -"), ("!", "!!"), ("?!", "? !"), ("«a» ‘b’ “c”", "a b c"),
    ("the the the the the", "the cat"), ("the cat the cat on the mat", "the cat sat on the mat"),
    ("\u0130stanbul \u039f\u0394\u039f\u03a3 \u01c5", "i\u0307stanbul \u03bf\u03b4\u03cc\u03c2 \u01c6"),
    ("\u039f\u03a3. \u03a3 A\u03a3B \u03a3\u0301A", "\u03bf\u03c2. \u03c3 a\u03c3b"), ("x\x1cy\x1dz\x85w", "x y z w"),
    ("p.m. U.S.A. e.g. 1.5.2020 10.000,00", "p.m. USA eg 1.5.2020 10.000,00"), ("-", "–"), ("--- 1-", "1 -"), ("word-\n", "word-"), ("word -\n ", "word"),
]  # fmt: skip


def score_texts():
    corpora = {
        "sentences": real_corpus(200, 0.25, 1),
        "close": real_corpus(60, 0.05, 2),
        "far": real_corpus(40, 0.9, 3),
        "nasty": tuple(map(list, zip(*NASTY))),
        "empty": (["", "", ""], ["one two", "three", "four five six seven"]),
        "empty references": (["one two", "three"], ["", ""]),
        "short": (["a b c", "d e"], ["a b c", "d e f"]),
        "no match": (["a b c d e"], ["f g h i j"]),
        "one word": (["yes"], ["yes"]),
    }
    for i, pair in enumerate(NASTY):
        corpora[f"nasty {i}"] = ([pair[0]], [pair[1]])
    out = []
    for name, (hypotheses, references) in corpora.items():
        entry = {"name": name, "hypotheses": hypotheses, "references": references, "bleu": {}, "chrf": {}}
        for tokenizer in ("13a", "none"):
            for lowercase in (False, True):
                metric = BLEU(tokenize=tokenizer, lowercase=lowercase)
                score = metric.corpus_score(hypotheses, [references])
                entry["bleu"][f"{tokenizer} {'lc' if lowercase else 'mixed'}"] = {
                    "score": score.score, "precisions": score.precisions, "bp": score.bp, "counts": score.counts,
                    "totals": score.totals, "sys_len": score.sys_len, "ref_len": score.ref_len,
                    "signature": str(metric.get_signature()),
                }  # fmt: skip
        for words in (0, 2):
            for lowercase in (False, True):
                metric = CHRF(word_order=words, lowercase=lowercase)
                score = metric.corpus_score(hypotheses, [references])
                entry["chrf"][f"{words} {'lc' if lowercase else 'mixed'}"] = {
                    "score": score.score, "name": score.name, "signature": str(metric.get_signature())}  # fmt: skip
        if len(hypotheses) >= 40:
            metric = BLEU()
            score = metric.corpus_score(hypotheses, [references], n_bootstrap=1000)
            entry["confidence"] = {"mean": score._mean, "half_width": score._ci, "signature": str(metric.get_signature())}
        out.append(entry)
    return out


def tokenized():
    tokenizer = BLEU().tokenizer
    texts = [text for pair in NASTY for text in pair]
    draw = random.Random(5)
    letters = "a1.,-'\"&;:!?/()<> \u00e9\u2014\u00a0Z9%$"
    texts += ["".join(draw.choice(letters) for _ in range(draw.randrange(1, 30))) for _ in range(400)]
    texts += ["a-\nb", "a\nb", "\n", "-\n"]
    return [[text, tokenizer(text)] for text in texts]


def several_references():
    draw = random.Random(7)
    first = [sentence(draw) for _ in range(30)]
    seconds = [spoil(text, draw, 0.4) for text in first]
    thirds = [spoil(text, draw, 0.6)[:-4] for text in first]
    hypotheses = [spoil(text, draw, 0.3) for text in first]
    references = [first, seconds, thirds]
    return {"hypotheses": hypotheses, "references": references,
            "bleu": BLEU().corpus_score(hypotheses, references).score,
            "chrf": CHRF().corpus_score(hypotheses, references).score,
            "chrf++": CHRF(word_order=2).corpus_score(hypotheses, references).score,
            "signature": "nrefs:3|case:mixed|eff:no|tok:13a|smooth:exp"}  # fmt: skip


def error_rates():
    draw = random.Random(11)
    pairs = [("a b", "b c"), ("a", "a"), ("", "a b c"), ("a b", ""), ("", ""), (" ", "  "), ("b", "a b c"), ("a b c d", "x"), ("x", "a b c d"),
             ("the cat sat", "the cat sat on the mat"), ("kitten", "sitting"), ("été ô", "ete o")]  # fmt: skip
    for _ in range(150):
        reference = [draw.choice("abcd") for _ in range(draw.randrange(1, 12))]
        hypothesis = [draw.choice("abcd") for _ in range(draw.randrange(0, 12))]
        pairs.append((" ".join(hypothesis), " ".join(reference)))
    hypotheses, references = real_corpus(60, 0.4, 13)
    pairs += list(zip(hypotheses, references))
    out = []
    for hypothesis, reference in pairs:
        words = jiwer.process_words(reference, hypothesis)
        letters = jiwer.process_characters(reference, hypothesis)
        out.append({
            "hypothesis": hypothesis, "reference": reference,
            "words": [words.substitutions, words.insertions, words.deletions, words.hits],
            "characters": [letters.substitutions, letters.insertions, letters.deletions, letters.hits],
            "wer": words.wer, "cer": letters.cer,
        })  # fmt: skip
    all_references = [pair[1] for pair in pairs]
    all_hypotheses = [pair[0] for pair in pairs]
    return {"pairs": out, "wer": jiwer.wer(all_references, all_hypotheses),
            "cer": jiwer.cer(all_references, all_hypotheses)}  # fmt: skip


# --- latency: the published formulas, written down once more -----------------------------------------------------------


def al_like(delays, source, target):
    if delays[0] > source:
        return delays[0]
    tau = next((i + 1 for i, d in enumerate(delays) if d >= source), len(delays))
    return sum(delays[i] - i * source / target for i in range(tau)) / tau


def dal(delays, source):
    step = source / len(delays)
    smooth = []
    for d in delays:
        smooth.append(max(d, smooth[-1] + step) if smooth else d)
    return sum(g - i * step for i, g in enumerate(smooth)) / len(delays)


def plain(delays, source, reference):
    target = len(delays) if reference is None else reference
    return [al_like(delays, source, target), al_like(delays, source, max(target, len(delays))),
            sum(delays) / (source * target), dal(delays, source)]  # fmt: skip


def latencies():
    from argparse import Namespace

    from simuleval.evaluator.instance import LogInstance
    from simuleval.evaluator.scorers.latency_scorer import ALScorer, APScorer, DALScorer, LAALScorer

    draw = random.Random(17)
    lines = []

    def add(delays, elapsed, source_length, reference, hypothesis=None):
        words = hypothesis if hypothesis is not None else [draw.choice(WER_WORDS) for _ in delays]
        lines.append({
            "index": len(lines), "prediction": " ".join(words), "delays": delays, "elapsed": elapsed,
            "prediction_length": len(delays), "reference": reference,
            "source": " ".join("s" for _ in range(int(min(source_length, 50)))), "source_length": source_length,
        })  # fmt: skip

    def wait(k, source, count):
        return [min(k + i, source) for i in range(count)]

    add(wait(3, 6, 6), [10.5 * (i + 1) for i in range(6)], 6, "eins zwei drei vier f\u00fcnf sechs")
    add(wait(1, 6, 9), [1.0] * 9, 6, "eins zwei drei")  # writes too much
    add(wait(1, 6, 2), [0.25, 7.0], 6, "eins zwei drei vier")  # writes too little: never reads all
    add([], [], 4, "leer")
    add([4], [100.0], 4, "eins")
    add([1], [3.0], 1, "")  # an empty reference is one word
    add([9, 9, 9], [5.0, 6.0, 7.0], 4, "sp\u00e4t wie nie")  # delays past the source
    add([2, 9], [5.0, 6.0], 4, "ein  Abstand mehr ")
    add([1, 1, 1, 1, 4], [1.0, 2.0, 3.0, 4.0, 50.0], 4, "eins zwei drei vier")
    for _ in range(60):
        source = draw.randrange(1, 30)
        reference = sentence(draw)
        hypothesis = spoil(reference, draw, 0.3).split()
        count = len(hypothesis)
        delays = sorted(draw.randrange(1, source + 1) for _ in range(count))
        elapsed = sorted(round(draw.random() * 2000, 3) for _ in range(count))
        add(delays, elapsed, source, reference, hypothesis)
    for _ in range(20):  # speech: everything in milliseconds
        source = round(draw.random() * 9000 + 500, 4)
        count = draw.randrange(1, 30)
        delays = sorted(min(400.0 * draw.randrange(1, 25), source) for _ in range(count))
        elapsed = [d + 13.5 * (i + 1) for i, d in enumerate(delays)]
        add(delays, elapsed, source, " ".join("w" for _ in range(draw.randrange(1, 30))))
    log = "".join(json.dumps(line) + "\n" for line in lines)
    (HERE / "instances.log").write_text(log, encoding="utf-8")

    scorers = {"AL": ALScorer, "LAAL": LAALScorer, "AP": APScorer, "DAL": DALScorer}
    result = {"units": {}, "sentences": []}
    for unit in ("word", "char"):
        instances = {i: LogInstance(json.dumps(line), unit) for i, line in enumerate(lines)}
        if unit == "char":  # SimulEval divides by the length of an empty reference
            instances = {i: one for i, one in instances.items() if one.reference_length > 0}
        of_unit = {}
        for aware in (False, True):
            for name, scorer in scorers.items():
                value = scorer(computation_aware=aware)(instances)
                of_unit[name + ("_CA" if aware else "")] = value
        result["units"][unit] = of_unit
    for i, line in enumerate(lines):
        if not line["delays"]:
            result["sentences"].append(None)
            continue
        instance = LogInstance(json.dumps(line), "word")
        theirs = {}
        for key in ("delays", "elapsed"):
            values = [s(computation_aware=key == "elapsed").compute(instance) for s in scorers.values()]
            ours = plain(line[key], line["source_length"], instance.reference_length)
            assert all(abs(a - b) <= 1e-9 * max(1, abs(a)) for a, b in zip(values, ours)), (i, key, values, ours)
            theirs[key] = values
        instance.reference = None
        theirs["without reference"] = [s().compute(instance) for s in scorers.values()]
        result["sentences"].append(theirs)
    texts = [line["prediction"] for line in lines], [line["reference"] for line in lines]
    result["BLEU"] = sacrebleu.corpus_bleu(texts[0], [texts[1]]).score
    result["chrF2"] = sacrebleu.corpus_chrf(texts[0], [texts[1]]).score
    result["chrF2++"] = sacrebleu.corpus_chrf(texts[0], [texts[1]], word_order=2).score
    result["WER"] = 100 * jiwer.wer(texts[1], texts[0])
    return result


# --- Whisper's normalisation ---------------------------------------------------------------------------------------------


def whisper_normalizer():
    folder = pathlib.Path(importlib.util.find_spec("whisper").origin).parent / "normalizers"
    package = types.ModuleType("normalizers")
    package.__path__ = [str(folder)]
    sys.modules["normalizers"] = package
    for name in ("basic", "english"):
        spec = importlib.util.spec_from_file_location(f"normalizers.{name}", folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[f"normalizers.{name}"] = module
        spec.loader.exec_module(module)
    return sys.modules["normalizers.english"].EnglishTextNormalizer()


SPOKEN = """Mr. Park visited Assoc. Prof. Kim Jr. and Dr. O'Neil's sister on St. Mary's Ave.
I won't, can't, don't, ain't and y'all shouldn't've; let's go, ma'am!
He's been there, she'd gone, they'd done it, it's got to be, I'd like that, we'll see, you've won, I'm fine, 'twas.
I'ma do it. Imma do it, gonna, wanna, gotta, woulda, coulda, shoulda.
Hmm, uh, um, mm, mhm, mmm, well [laughter] yes (inaudible) no <noise> maybe.
The colour of the harbour's labourers was grey; they organised, analysed and travelled to the theatre centre.
twenty one thousand three hundred and forty five dollars and six cents
he paid $20 million and ¢7, then £3.50, €2 and 7 cents, or $0.50
one oh one, nineteen ninety nine, two thousand twenty, the nineteen sixties, twenty first century
double oh seven, triple five nine, three point one four, minus five, negative ten percent, per cent
two and a half million, three and a half, a hundred and one, one hundred thousandths, the 274th, 32 nd, 1960 s
ten percent of one percent, fifty per cent, five per day, plus 4, positive thinking
1,234,567.89 and 3.14 and .5 and 5. and a.b and v2.0 and 10:30
it's 100% sure, %5, 7 %, the 1st, 2nd, 3rd, one, ones, 1s
Café naïve Ångström œuvre Ærø straße łódź þorn ðis ½ ² ™ … ﬁre ＡＢＣ １２
eleven twelve thirteen, sixty five four three two one, one two three four, five hundred six thousand seven
a million billion, zero zero one, oh, o, zeroth, first, second, third, fifth, twelfth, twentieth, hundredth
fifties sixes tens hundreds of thousands, millions of euros, thirty pounds and five, point, double, triple, and
forty five million two hundred thousand and eleven, nine hundred nineteen nineteen, twenty eleven, fifty twenty
rock 'n' roll, the boys ' toys, 'quoted', o'clock, don 't
mp3 4x4 b2b 3d 7up 90s 5 th 6 s 1st2nd
the price is two point five million dollars, minus two point oh five, three hundred point six
sixty-five year-old twenty-first-century up-to-date
one and two, hundred and, thousand and five, and one, twenty and two, double one, double twelve, triple oh
zero point five, oh point five, zero million, zero hundred, 2.5 thousand, 2.55 hundreds, 1.5 tenths
$5 and ¢5, $5 ¢50, £7 and 70 cents, €9 and five cents, $0.75, $0.5, $10.25
123 456, 1 2 3, 12 twenty, twenty 12, 5 million 3 thousand, 3.5 4.5, 10.20.30
centre centred centring catalogue dialogues programme cheque tyres judgement manoeuvre pyjamas jewellery
-5 +7 - 5 5- a-b 3-4 5% 5 % $ 5 $a a$ . .a a. ... %%
İstanbul ΟΔΟΣ ÇÀ É Ñ Ü
f() a()b (a) (b (c) d) [e <f] g> <> [] ()
one hundred and twenty three thousand four hundred and fifty six point seven eight nine
ninety nine point nine percent, one third, two thirds, a quarter, half, and a half, cake and a half
ten and a half thousand, twenty and a half, one million and a half""".split("\n")


def normalised():
    normalise = whisper_normalizer()
    draw = random.Random(19)
    texts = list(SPOKEN)
    words = ("zero oh o one two three nine ten eleven nineteen twenty thirty ninety hundred thousand million first second "
             "third twentieth hundredth ones twenties thousands and point double triple minus plus dollars cents pounds "
             "percent per cent 5 12 3.5 100 $7 cake 1960 0 half a").split()  # fmt: skip
    for _ in range(600):
        texts.append(" ".join(draw.choice(words) for _ in range(draw.randrange(1, 9))))
    texts += [sentence(draw) for _ in range(20)]
    texts += [text for pair in NASTY for text in pair]
    out = []
    for text in texts:
        try:
            out.append([text, normalise(text)])
        except (AssertionError, TypeError, ValueError, IndexError):
            out.append([text, None])  # the published code fails on it
    return out


def lower_cased():
    texts = ["ΟΔΟΣ", "ΟΔΟΣ ΣΟΦΟΣ.", "Σ", "ΑΣ", "ΑΣΑ", "Α'Σ", "Σ'Α", "İI", "ǅ Ǆ", "ẞ", "ÀÉÎ", "ԱԲ", "Ⰰ", "𐐀", "Ⅷ", "Ⓐ", "Ａ"]
    return [[text, text.lower()] for text in texts]


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, indent=0, separators=(",", ":"))
    (HERE / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write("corpora.json", score_texts())
    write("tokenized.json", tokenized())
    write("several_references.json", several_references())
    write("confidence.json", [[scores, sacrebleu.significance.estimate_ci(scores)[0].item(),
                               sacrebleu.significance.estimate_ci(scores)[1].item()]
                              for scores in ([random.Random(n).random() for _ in range(n)] for n in (1, 2, 39, 40, 41, 1000))])  # fmt: skip
    write("error_rates.json", error_rates())
    write("latencies.json", latencies())
    write("normalised.json", normalised())
    write("lower_case.json", lower_cased())
