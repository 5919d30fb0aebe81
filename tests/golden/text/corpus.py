#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The corpus that the tokenizer's goldens are made of: valid text of many kinds, always the same.

`lines()` gives more than 2,000 strings, some of which hold line breaks; `random_strings(count, seed)` gives as many
as one likes.
"""

import random
import unicodedata

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "She hasn't said that they'd come, but we're sure it'll rain; I've seen it, I'm told.",
    "IT'S NOT WHAT YOU'D THINK, THEY'LL SAY WE'VE LOST AND I'M LATE, YOU'RE WRONG, DON'T.",
    "Two young girls are playing with a ball near the river.",
    "Prices rose by 3.14% in 2024, from $1,299.99 to €1.349,00.",
    "Zwei junge Frauen spazieren durch die Straße, während es regnet.",
    "Der Fluß fließt über große Füße hinweg.",
    "Un homme âgé lit le journal près de la fenêtre, n'est-ce pas ?",
    "L'été, où étaient les élèves de l'école ? « Là-bas ! »",
    "El niño comió piñas y bebió agua; ¿cuánto cuesta? ¡Qué caro!",
    "Não há pão, só maçãs e açúcar à venda.",
    "Łódź żółta pływa wśród gęsi, ćmy i źrebiąt.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Árvíztűrő tükörfúrógép.",
    "Quốc ngữ: tiếng Việt có nhiều dấu thanh khác nhau.",
    "İstanbul'da yağmur yağıyor, ışıklar söndü.",
    "Þetta er ágætt, sagði hún við köttinn.",
    "Õhtul läks ta öö peale jäädes koju.",
    "Съешь ещё этих мягких французских булок, да выпей чаю.",
    "Їжак об'їв ґанок і з'їв п'ять яблук.",
    "Ο γρήγορος αλεπού πηδάει πάνω από το σκυλί· τι ώρα είναι;",
    "Ἐν ἀρχῇ ἦν ὁ λόγος.",
    "الرجل يقرأ الجريدة في الحديقة، أليس كذلك؟",
    "السَّلامُ عَلَيْكُم ٠١٢٣٤٥٦٧٨٩",
    "این کتابِ می‌خواهم را بخوان ۱۲۳۴.",
    "הַיֶּלֶד אוֹכֵל תַּפּוּחַ בַּגָּן.",
    "איך אתם מרגישים היום?",
    "नमस्ते, आप कैसे हैं? यह मेरी किताब है। १२३",
    "বাংলা ভাষায় লেখা একটি বাক্য।",
    "தமிழ் மொழியில் ஒரு வாக்கியம்.",
    "తెలుగు భాషలో ఒక వాక్యం.",
    "ಕನ್ನಡ ಭಾಷೆಯಲ್ಲಿ ಒಂದು ವಾಕ್ಯ.",
    "മലയാളം ഭാഷയിൽ ഒരു വാക്യം.",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ ๑๒๓",
    "ພາສາລາວ ຄືກັນ",
    "ខ្ញុំស្រឡាញ់ភាសាខ្មែរ។",
    "မြန်မာဘာသာစကား",
    "ქართული ენა ძალიან ლამაზია.",
    "Հայերեն լեզուն գեղեցիկ է։",
    "አማርኛ ቋንቋ ነው። ፩፪፫",
    "我昨天在图书馆看了三个小时的书。",
    "這是一個繁體中文的句子，「你好」！",
    "今日は良い天気ですね。カタカナとひらがな、漢字も。",
    "ｱｲｳｴｵ　全角ＡＢＣ１２３",
    "안녕하세요, 만나서 반갑습니다. 한국어 문장입니다.",
    "ᚠᛇᚻ ᛒᛦᚦ ᚠᚱᚩᚠᚢᚱ",
    "Монгол хэл ᠮᠣᠩᠭᠣᠯ",
    "བོད་སྐད་ཡིན།",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕄𝕒𝕥𝕙 𝟙𝟚𝟛 𝓼𝓬𝓻𝓲𝓹𝓽",
    "𐍈𐌰𐌿𐍂𐌽 𒀀𒁀 𓀀𓂀 𐤀𐤁",
    "Ⅷ Ⅻ ½ ¾ ² ³ ① ⑳ ㊿ 〇 零 ৩ ௧",
]

CODE = [
    "int main(int argc, char** argv) { return argc > 1 ? std::atoi(argv[1]) : 0; }",
    "for (size_t i = 0; i < n; ++i) sum += a[i]*b[i];",
    "def f(x, *args, **kw):\n    return {k: v for k, v in kw.items()}\n",
    'if __name__ == "__main__":\n\tmain()\n\n\n',
    "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name;",
    "<div class=\"box\"><a href='#'>link</a></div>",
    '{"key": [1, 2.5e-3, null, true], "s": "\\u00e9\\n"}',
    "git commit -m 'fix: it''s done' && git push --force-with-lease",
    "https://example.org/path?q=1&lang=de#frag",
    "user.name+tag@mail.example.com",
    "C:\\Users\\me\\file.txt",
    "/usr/local/lib64/x.so.1.2.3",
    "#include <vector>\r\n#define X(a) ((a) + 1)\r\n\r\nint x = 0xFFu;",
    "\\frac{a}{b} + \\sqrt{x^2} \\le \\sum_{i=1}^{n} a_i",
    "let s = `a${b}c`; // comment\n/* block */",
    "a<-b|>c%>%d",
    "!!!???...,,,;;;:::",
    "--- ### *** === ~~~ ^^^ ``` ",
    "a_b-c.d/e\\f|g",
    "x=1;y=22;z=333;w=4444;v=55555;u=666666;t=7777777;s=12345678901234567890",
    "1 12 123 1234 12345 1,234,567.89 -0.5 +3e10 0x1F 007",
]

EMOJI = [
    "😀",
    "👍🏽",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "❤️",
    "🇩🇪🇫🇷",
    "👨🏿‍🚀",
    "🤷🏻‍♀️",
    "✨",
    "☕️",
    "1️⃣",
    "🧑‍💻",
    "🫠",
    "⌛",
]

SPACES = [
    " ",
    "  ",
    "   ",
    "        ",
    "\t",
    "\t\t",
    " \t ",
    "\n",
    "\n\n",
    "\n\n\n",
    "\r\n",
    "\r\n\r\n",
    "\r",
    " \n",
    "\n ",
    "  \n  ",
    "\u00a0",
    "\u00a0\u00a0",
    "\u2003",
    "\u2009",
    "\u202f",
    "\u3000",
    "\u2028",
    "\u2029",
    "\u0085",
    "\u000b",
    "\f",
    "\u1680",
    "\u200a ",
]

MARKS = [
    "\u0301",
    "\u0300\u0323",
    "\u0323\u0300",
    "\u0327",
    "\u20dd",
    "\u0345",
    "\u0338",
    "\u05b0",
    "\u064b",
    "\u093c",
    "\u200d",
    "\u200b",
    "\ufe0f",
    "\u00ad",
    "\ufeff",
    "\u0305\u0332",
]

CONTRACTIONS = [
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "'S",
    "'T",
    "'RE",
    "'Ve",
    "'vE",
    "'M",
    "'LL",
    "'lL",
    "'D",
    "'\u017f",
    "'x",
    "''s",
    "'",
    "\u2019s",
    "\u2019LL",
    "'sa",
    "'ree",
    "'llo",
    "'1",
    "' s",
    "'\u017fe",
    "'l",
    "'r",
    "'v",
    "'l l",
]

SPECIAL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<s>",
    "</s>",
    "[INST]",
    "<think>",
    "<|im_start|",
    "<pad>",
]

FORMS = [
    "Å",
    "A\u030a",
    "\u212b",
    "é",
    "e\u0301",
    "ﬁ",
    "ſ",
    "ß",
    "ẞ",
    "한",
    "\u1112\u1161\u11ab",
    "\u0958",
    "क\u093c",
    "ệ",
    "e\u0323\u0302",
    "e\u0302\u0323",
    "\u0344",
    "\u1f82",
    "\u2126",
    "\U0002f800",
    "豈",
    "\u0f43",
    "q\u0307\u0323",
    "が",
    "か\u3099",
    "\U0001d15e",
]


def words():
    out = []
    for sentence in SENTENCES:
        out.extend(sentence.split())
    return out


def assigned(rng):
    while True:
        c = rng.choice(
            [
                rng.randrange(0x20, 0x250),
                rng.randrange(0x250, 0x3100),
                rng.randrange(0x3100, 0x10000),
                rng.randrange(0x10000, 0x20000),
                rng.randrange(0x20000, 0x110000),
            ]
        )
        if unicodedata.category(chr(c)) not in ("Cs",):
            return chr(c)


def fragment(rng, vocabulary):
    kind = rng.randrange(16)
    if kind < 5:
        return rng.choice(vocabulary)
    if kind == 5:
        return rng.choice(vocabulary) + rng.choice(CONTRACTIONS)
    if kind == 6:
        return rng.choice(EMOJI) * rng.choice([1, 1, 1, 2, 3])
    if kind == 7:
        return str(rng.randrange(10 ** rng.randrange(1, 12)))
    if kind == 8:
        return rng.choice(CODE)[: rng.randrange(1, 30)]
    if kind == 9:
        return "".join(rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(rng.randrange(1, 6)))
    if kind == 10:
        return "".join(assigned(rng) for _ in range(rng.randrange(1, 5)))
    if kind == 11:
        return rng.choice(vocabulary)[: rng.randrange(1, 5)] + rng.choice(MARKS) + rng.choice(["", "x", "é"])
    if kind == 12:
        return rng.choice(FORMS)
    if kind == 13:
        return rng.choice(SPECIAL)
    if kind == 14:
        return rng.choice(["aA", "xyz", "ABC", "1a2b", "٣", "Ⅷ", "½x"]) * rng.randrange(1, 4)
    return rng.choice(vocabulary).upper()


def random_strings(count, seed):
    rng = random.Random(seed)
    vocabulary = words()
    for _ in range(count):
        parts = []
        for _ in range(rng.randrange(1, 9)):
            parts.append(fragment(rng, vocabulary))
            parts.append(rng.choice([" ", " ", " ", " ", "", "", rng.choice(SPACES)]))
        if rng.random() < 0.3:
            parts.insert(0, rng.choice(SPACES))
        yield "".join(parts if rng.random() < 0.3 else parts[:-1])


def lines():
    out = ["", " ", *SENTENCES, *CODE, *EMOJI, *SPACES, *MARKS, *CONTRACTIONS, *SPECIAL, *FORMS]
    for space in SPACES:
        out += [f"a{space}b", f"{space}1{space}", f"x{space}!{space}y", f"1{space}2", f"\u00e9{space}\n{space}z"]
    for contraction in CONTRACTIONS:
        out += [
            f"we{contraction} go",
            f"9{contraction}",
            f" {contraction}",
            f"x {contraction}y",
            f"WE{contraction}GO",
            f"!{contraction}\n",
        ]
    for first, second in zip(SENTENCES, SENTENCES[1:]):
        out += [f"{first} {second}", f"{first}\n{second}\r\n", f"{first.upper()}", f"{second}  {first}"]
    out += [
        "a" * 300,
        " " * 300,
        "\n" * 50,
        "1" * 100,
        "'" * 40,
        "ab" * 150,
        "\u4e2d" * 80,
        "😀" * 30,
        "e\u0301" * 60,
        " \t" * 40 + "x",
    ]
    out += random_strings(1350, 7)
    return out


if __name__ == "__main__":
    print(len(lines()), "lines,", sum(len(line.encode()) for line in lines()), "bytes")
