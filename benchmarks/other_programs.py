#!/usr/bin/env python3
"""fastText and LightFM for scripts/benchmark, from their PyPI packages.

    other_programs.py fasttext|lightfm FOLDER THREADS       FOLDER: prepared posts (see benchmark_posts.py)

One command a line on standard input, one line of JSON for each on standard output. The protocol of `measure` is that of
`tagspace evaluate`: the hashtags of the table are all ranked, ties count against the program.
"""

import json
import pathlib
import sys
import time

import numpy as np

DIM = 64


def read_posts(path):
    """[(text, hashtags)]"""
    posts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        own = [word[9:] for word in line.split() if word.startswith("__label__")]
        posts.append((" ".join(word for word in line.split() if not word.startswith("__label__")), own))
    return posts


def precision_at_1(vectors, table, names, posts):
    columns = {name: i for i, name in enumerate(names)}
    right = 0
    for begin in range(0, len(posts), 512):
        scores = vectors[begin : begin + 512] @ table.T
        for row, (_, own) in zip(scores, posts[begin : begin + 512]):
            best = np.flatnonzero(row >= row.max())
            right += len(best) == 1 and best[0] in {columns.get(name, -1) for name in own}
    return right / len(posts)


class FastText:
    def __init__(self, folder, threads):
        import fasttext

        fasttext.FastText.eprint = lambda *_: None
        self.library, self.folder, self.threads = fasttext, folder, threads
        self.model = None

    def train(self, epochs, rate, negatives):
        """-loss ns; from reading the file to the model in memory. Some rates end in NaN: then "diverged" says so."""
        start = time.perf_counter()
        try:
            self.model = self.library.train_supervised(
                str(self.folder / "train.txt"),
                dim=DIM,
                loss="ns",
                epoch=int(epochs),
                lr=float(rate),
                neg=int(negatives),
                minCount=1,
                minCountLabel=1,
                thread=self.threads,
                verbose=0,
            )
        except RuntimeError as error:
            if "NaN" not in str(error):
                raise
            return {"diverged": True}
        return {"seconds": time.perf_counter() - start}

    def measure(self, split):
        posts = read_posts(self.folder / f"{split}.txt")
        vectors = np.array([self.model.get_sentence_vector(text) for text, _ in posts])
        names = [label[9:] for label in self.model.get_labels()]
        return {
            "posts": len(posts),
            "precision_at_1": precision_at_1(vectors, self.model.get_output_matrix(), names, posts),
        }

    def save(self, path):
        self.model.save_model(path)
        return {}

    def predict(self, path, posts):
        """The ten best hashtags of each line; the model's loading counts, the interpreter's start does not."""
        texts = pathlib.Path(posts).read_text(encoding="utf-8").splitlines()
        start, wall = time.process_time(), time.perf_counter()
        model = self.library.load_model(path)
        hashtags, _ = model.predict(texts, k=10)
        assert len(hashtags) == len(texts)
        return {"posts": len(texts), "cpu_seconds": time.process_time() - start, "seconds": time.perf_counter() - wall}


class LightFm:
    def __init__(self, folder, threads):
        import lightfm
        import scipy.sparse

        posts = read_posts(folder / "train.txt")
        words = {word: i for i, word in enumerate(dict.fromkeys(w for text, _ in posts for w in text.split()))}
        names = {name: i for i, name in enumerate(dict.fromkeys(h for _, own in posts for h in own))}
        rows, columns, values = [], [], []
        for row, (text, _) in enumerate(posts):
            tokens = text.split()
            rows += [row] * len(tokens)
            columns += [words[word] for word in tokens]
            values += [1 / len(tokens)] * len(tokens)
        self.features = scipy.sparse.csr_matrix(
            (np.array(values, np.float32), (rows, columns)), (len(posts), len(words))
        )
        pairs = np.array([(row, names[h]) for row, (_, own) in enumerate(posts) for h in own]).T
        ones = np.ones(pairs.shape[1], np.float32)
        self.pairs = scipy.sparse.coo_matrix((ones, pairs), (len(posts), len(names)))
        self.threads = threads
        self.model = lightfm.LightFM(
            no_components=DIM, loss="warp", learning_rate=0.05, max_sampled=1000, random_state=1
        )

    def epoch(self):
        start = time.perf_counter()
        self.model.fit_partial(self.pairs, user_features=self.features, epochs=1, num_threads=self.threads)
        return {"pairs": self.pairs.nnz, "seconds": time.perf_counter() - start}


def main():
    kind, folder, threads = sys.argv[1:]
    program = {"fasttext": FastText, "lightfm": LightFm}[kind](pathlib.Path(folder), int(threads))
    for line in sys.stdin:
        name, *values = line.split()
        print(json.dumps(getattr(program, name)(*values)), flush=True)


main()
