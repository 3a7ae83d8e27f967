"""Posts that every program of a comparison reads alike: for scripts/benchmark.

A prepared folder holds train.txt, valid.txt and test.txt, lines of "__label__tag" and words. Words and hashtags are
lower-case letters, digits and "_" of ASCII, so that no program's tokenizer splits them; rare words and hashtags are
left out, so that no program has a threshold of its own.
"""

import itertools
import random
import re
import unicodedata
from collections import Counter

HASHTAG = re.compile(r"(?:(?<![\w&/#])[#\uff03]|(?:(?<=\s)|^)__label__)(?=[\w-]*[^\W\d_])([\w-]+)")
WORD = re.compile(r"@?\w+(?:['\u2019]\w+)*|([^\w\s])\1*")
WORDLIKE = re.compile(r"@?\w")
UNSEEN = re.compile("[\ufe0e\ufe0f\u200d\u2026]")
NOT_PLAIN = re.compile("[^a-z0-9_]")
SPLITS = ("train", "valid", "test")


def plain(name):
    """A name of plain letters for any word: "don't" is don_27_t."""
    return NOT_PLAIN.sub(lambda character: f"_{ord(character[0]):x}_", name)


def parse(line):
    """(words, hashtags) of a post; its hashtags are out of the text."""
    line = unicodedata.normalize("NFKC", line).lower()
    hashtags = list(dict.fromkeys(HASHTAG.findall(line)))
    words = (match[0] for match in WORD.finditer(UNSEEN.sub(" ", HASHTAG.sub(" ", line))))
    return [plain(w if WORDLIKE.match(w) else w[0]) for w in words], ["t_" + plain(h) for h in hashtags]


def write(folder, posts, hashtag_count, word_count):
    """Writes {"train": [(words, hashtags)], ...} without the hashtags and words that the training posts have fewer
    times than the counts say."""
    hashtags = Counter(h for _, own in posts["train"] for h in own)
    table = {h for h, count in hashtags.items() if count >= hashtag_count}
    words = Counter(w for text, own in posts["train"] if not table.isdisjoint(own) for w in text)
    vocabulary = {w for w, count in words.items() if count >= word_count}
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        with open(folder / f"{split}.txt", "w", encoding="utf-8") as file:
            for text, own in posts[split]:
                text = [w for w in text if w in vocabulary]
                own = [h for h in own if h in table]
                if text and own:
                    file.write(" ".join([f"__label__{h}" for h in own] + text) + "\n")


def prepare(source, folder, hashtag_count, word_count=2):
    posts = {}
    for split in SPLITS:
        with open(source / f"{split}.txt", encoding="utf-8", errors="replace") as lines:
            posts[split] = [parse(line) for line in lines]
    write(folder, posts, hashtag_count, word_count)


def synthetic(folder, posts, words, hashtags, lengths=(4, 30), seed=1):
    """As many posts a split as `posts` says, of lengths[0] to lengths[1] words. Word and hashtag frequencies follow
    Zipf's law; half of a post's words are from the 20 of its hashtag, so that there is something to learn. Every word
    and hashtag occurs in train.txt."""
    chance = random.Random(seed)

    def zipf(size):
        return list(itertools.accumulate(1 / (i + 5) for i in range(size)))

    word_weights, hashtag_weights = zipf(words), zipf(hashtags)
    own_words = [chance.choices(range(words), cum_weights=word_weights, k=20) for _ in range(hashtags)]

    def post(hashtag):
        length = chance.randint(*lengths)
        text = chance.choices(own_words[hashtag], k=length // 2)
        text += chance.choices(range(words), cum_weights=word_weights, k=length - len(text))
        chance.shuffle(text)
        return text

    folder.mkdir(parents=True, exist_ok=True)
    for split, size in zip(SPLITS, posts):
        drawn = chance.choices(range(hashtags), cum_weights=hashtag_weights, k=size)
        lines = [(hashtag, post(hashtag)) for hashtag in drawn]
        if split == "train":
            lines += [(hashtag, post(hashtag)) for hashtag in set(range(hashtags)) - set(drawn)]
            unseen = sorted(set(range(words)).difference(*(text for _, text in lines)))
            lines += [
                (chance.randrange(hashtags), unseen[i : i + lengths[1]]) for i in range(0, len(unseen), lengths[1])
            ]
        with open(folder / f"{split}.txt", "w", encoding="utf-8") as file:
            for hashtag, text in lines:
                file.write(f"__label__h{hashtag} " + " ".join(f"w{word}" for word in text) + "\n")
