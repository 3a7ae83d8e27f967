#!/usr/bin/env python3
"""A run of tagspace in eager PyTorch, as a good user would write it: what scripts/benchmark compares with.

    pytorch_model.py RUN --posts FILE [--conv gemm|conv] [--threads N] [--batch N]

Words, hashtags and every hyper-parameter come from the run folder; FILE holds lines of "__label__tag" and words. Then
one command a line on standard input, and one line of JSON for each on standard output:

    train N               whole training steps on N posts, from fresh vectors at the first time
    load                  takes over the run's best checkpoint
    encode N              vectors of N posts, without dropout
    compare FILE          encodes all posts; the largest difference from the vectors in FILE, one line of numbers a post
    product N ROWS        the bare product of [N, dim] and [dim, ROWS], in blocks of 512 posts

Posts are batched with others of their length, so that little padding is computed. The gradients of both tables are
sparse, so that a step touches its own rows only. WARP is computed from the scores of the whole table, one matrix
product: the number of tries follows the geometric distribution of the share of violators, and the violator is any of
them, which is what drawing one negative after the other amounts to.
"""

import argparse
import json
import math
import pathlib
import random
import struct
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

SORTED_AT_ONCE = 50  # batches


def read_names(path):
    return [line.split("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()]


def read_posts(path, words, hashtags):
    """[(word ids, hashtag ids)]; 0 is the padding, so words count from 1."""
    word_ids = {word: i + 1 for i, word in enumerate(words)}
    hashtag_ids = {hashtag: i for i, hashtag in enumerate(hashtags)}
    posts = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            tokens, own = [], []
            for word in line.split():
                if word.startswith("__label__"):
                    if word[9:] in hashtag_ids:
                        own.append(hashtag_ids[word[9:]])
                elif word in word_ids:
                    tokens.append(word_ids[word])
            if tokens and own:
                posts.append((tokens, own))
    return posts


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = bytearray(file.read())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = torch.frombuffer(data[begin:end], dtype=torch.float32).reshape(entry["shape"])
    return tensors


class Bag(nn.Module):
    """The mean of the word vectors."""

    def __init__(self, words, encoder):
        super().__init__()
        self.words = nn.EmbeddingBag(words + 1, encoder["dim"], mode="mean", padding_idx=0, sparse=True)
        self.dropout = nn.Dropout(encoder["dropout"])

    def forward(self, ids, lengths):
        return self.dropout(self.words(ids))

    def load(self, tensors):
        self.words.weight[1:] = tensors["words"]


class Cnn(nn.Module):
    """Convolution, tanh, maximum over the post, tanh, linear layer."""

    def __init__(self, words, encoder, form):
        super().__init__()
        self.words = nn.Embedding(words + 1, encoder["dim"], padding_idx=0, sparse=True)
        self.convolution = nn.Conv1d(
            encoder["dim"], encoder["filters"], encoder["window"], padding=encoder["window"] // 2
        )
        self.linear = nn.Linear(encoder["filters"], encoder["dim"])
        self.dropout = nn.Dropout(encoder["dropout"])
        self.form = form

    def forward(self, ids, lengths):
        embedded = self.words(ids)  # [posts, tokens, dim]
        padding = torch.arange(ids.shape[1]) >= lengths[:, None]
        if self.form == "conv":
            features = torch.tanh(self.convolution(embedded.transpose(1, 2)))  # [posts, filters, tokens]
            maxima = features.masked_fill(padding[:, None], -2).amax(2)
        else:
            # One product over unfolded windows; the maximum first, then bias and tanh, which change no order.
            filters, dim, window = self.convolution.weight.shape
            padded = F.pad(embedded, (0, 0, window // 2, window // 2))
            windows = padded.unfold(1, window, 1).reshape(-1, dim * window)
            products = (windows @ self.convolution.weight.view(filters, -1).t()).view(*ids.shape, filters)
            products = products.masked_fill(padding[:, :, None], -1e9)
            maxima = torch.tanh(products.max(1).values + self.convolution.bias)
        return self.linear(self.dropout(torch.tanh(maxima)))

    def load(self, tensors):
        self.words.weight[1:] = tensors["words"]
        self.convolution.weight.copy_(tensors["convolution.weight"].transpose(1, 2))
        self.convolution.bias.copy_(tensors["convolution.bias"])
        self.linear.weight.copy_(tensors["linear.weight"])
        self.linear.bias.copy_(tensors["linear.bias"])


class Experiment:
    def __init__(self, arguments):
        run = pathlib.Path(arguments.run)
        self.run = run
        self.config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        words = read_names(run / "tokenizer" / "words.tsv")
        hashtags = read_names(run / "hashtags.tsv")
        self.posts = read_posts(arguments.posts, words, hashtags)
        self.lengths = torch.tensor([len(tokens) for tokens, _ in self.posts])
        self.own_lengths = torch.tensor([len(own) for _, own in self.posts])
        # All posts end to end, each filled up to the longest: a batch is then a slice of rows and columns.
        self.ids = self.padded([tokens for tokens, _ in self.posts], 0)
        self.own = self.padded([own for _, own in self.posts], -1)
        self.batch = arguments.batch
        self.order = iter(())

        encoder, optimizer = self.config["encoder"], self.config["optimizer"]
        self.bag = encoder["type"] == "bag"
        self.encoder = Bag(len(words), encoder) if self.bag else Cnn(len(words), encoder, arguments.conv)
        self.hashtags = nn.Embedding(len(hashtags), encoder["dim"], sparse=True)
        for table in (self.encoder.words, self.hashtags):
            nn.init.normal_(table.weight, 0, encoder["initial_scale"])
        with torch.no_grad():
            self.encoder.words.weight[0] = 0
        self.tables = [self.encoder.words.weight, self.hashtags.weight]
        self.dense = [p for name, p in self.encoder.named_parameters() if name != "words.weight"]
        groups = [{"params": self.tables}]
        if self.dense:
            groups.append({"params": self.dense, "lr": optimizer["encoder_learning_rate"]})
        self.optimizer = torch.optim.Adagrad(groups, lr=optimizer["learning_rate"])
        rows = torch.arange(1, len(hashtags), dtype=torch.float64)
        self.harmonic = torch.cat([torch.zeros(1), torch.cumsum(1 / rows, 0).float()])

    @staticmethod
    def padded(lists, filling):
        result = torch.full((len(lists), max(map(len, lists))), filling)
        for row, values in enumerate(lists):
            result[row, : len(values)] = torch.tensor(values)
        return result

    def shuffled_batches(self):
        """Batches of posts of like length, in random order, epoch after epoch."""
        while True:
            order = torch.randperm(len(self.posts))
            batches = []
            for piece in order.split(self.batch * SORTED_AT_ONCE):
                batches += piece[self.lengths[piece].argsort()].split(self.batch)
            random.shuffle(batches)
            yield from batches

    def inputs(self, rows):
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        if not self.bag:
            longest = max(longest, self.config["encoder"]["window"])
        return self.ids[rows, :longest], lengths

    def find_violators(self, vectors, positives, own):
        """Violators [posts], tries [posts], and whether there is one within max_tries [posts]."""
        loss = self.config["loss"]
        table = self.hashtags.weight.detach()
        scores = vectors @ table.t()
        violates = scores > (scores.gather(1, positives[:, None]) - loss["margin"])
        # A post's own hashtags are no negatives; where it has fewer than the most, the positive stands again.
        violates.scatter_(1, torch.where(own >= 0, own, positives[:, None]), False)
        counts = violates.sum(1)
        share = counts / (len(table) - 1)
        draws = torch.rand(len(vectors)).clamp_(min=1e-12)
        tries = torch.where(
            share >= 1, 1.0, torch.floor(torch.log(draws) / torch.log1p(-share.clamp(max=1 - 1e-7))) + 1
        )
        found = (counts > 0) & (tries <= loss["max_tries"])
        places = violates.view(-1).nonzero().squeeze(1)
        drawn = counts.cumsum(0) - counts + (torch.rand(len(vectors)) * counts).long()
        violators = places[drawn.clamp_(max=len(places) - 1)] % len(table) if len(places) else positives
        return violators, tries.clamp(1, loss["max_tries"]).long(), found

    def step(self, rows):
        loss_config, encoder = self.config["loss"], self.config["encoder"]
        ids, lengths = self.inputs(rows)
        own = self.own[rows]
        choice = (torch.rand(len(rows)) * self.own_lengths[rows]).long()
        positives = own.gather(1, choice[:, None]).squeeze(1)
        if encoder["word_dropout"] > 0:
            ids = ids * (torch.rand(ids.shape) >= encoder["word_dropout"])
        vectors = self.encoder(ids, lengths)
        with torch.no_grad():
            violators, tries, found = self.find_violators(vectors, positives, own)
        if not found.any():
            return 0.0
        vectors = vectors[found]
        weights = self.harmonic[(len(self.hashtags.weight) - 1) // tries[found]]
        gap = (vectors * (self.hashtags(violators[found]) - self.hashtags(positives[found]))).sum(1)
        loss = (weights * F.relu(loss_config["margin"] + gap)).sum() / len(rows)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.shorten()
        return loss.item()

    def shorten(self):
        """Holds the rows that the step has changed to optimizer.max_norm."""
        longest = self.config["optimizer"]["max_norm"]
        if longest == 0:
            return
        with torch.no_grad():
            for table in self.tables:
                rows = table.grad._indices().squeeze(0).unique()
                vectors = table[rows]
                norms = vectors.norm(dim=1, keepdim=True).clamp_(min=1e-9)
                table[rows] = vectors * (longest / norms).clamp_(max=1)

    # --- commands ---

    def train(self, posts):
        posts = int(posts)
        self.encoder.train()
        losses, done, start, cpu = [], 0, time.perf_counter(), time.process_time()
        while done < posts:
            rows = next(self.order, None)
            if rows is None:
                self.order = self.shuffled_batches()
                continue
            losses.append(self.step(rows))
            done += len(rows)
        return {
            "posts": done,
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu,
            "loss": sum(losses) / len(losses),
        }

    def load(self):
        tensors = read_safetensors(self.run / "best.safetensors")
        with torch.no_grad():
            self.encoder.load(tensors)
            self.hashtags.weight.copy_(tensors["hashtags"])
        return {}

    def vectors(self, posts):
        """[posts, dim] of the first posts, in their order."""
        self.encoder.eval()
        order = self.lengths[:posts].argsort()
        result = torch.empty(len(order), self.config["encoder"]["dim"])
        with torch.inference_mode():
            for rows in order.split(self.batch):
                result[rows] = self.encoder(*self.inputs(rows))
        return result

    def encode(self, posts):
        posts = min(int(posts), len(self.posts))
        start = time.perf_counter()
        self.vectors(posts)
        return {"posts": posts, "seconds": time.perf_counter() - start}

    def compare(self, path):
        with open(path, encoding="utf-8") as lines:
            theirs = torch.tensor([[float(x) for x in line.split()] for line in lines])
        ours = self.vectors(len(theirs))
        if ours.shape != theirs.shape:
            return {"error": f"vectors of shape {list(theirs.shape)}, not {list(ours.shape)}"}
        return {
            "posts": len(ours),
            "difference": (ours - theirs).abs().max().item(),
            "largest": ours.abs().max().item(),
        }

    def product(self, posts, rows):
        posts, rows, dim = int(posts), int(rows), self.config["encoder"]["dim"]
        queries, table, scores = torch.randn(posts, dim), torch.randn(rows, dim), torch.empty(512, rows)
        start = time.perf_counter()
        for block in queries.split(512):
            torch.mm(block, table.t(), out=scores[: len(block)])
        return {"posts": posts, "seconds": time.perf_counter() - start}


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].strip())
    parser.add_argument("run")
    parser.add_argument("--posts", required=True)
    parser.add_argument("--conv", choices=["gemm", "conv"], default="gemm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    random.seed(1)
    experiment = Experiment(arguments)
    commands = {name: getattr(experiment, name) for name in ("train", "load", "encode", "compare", "product")}
    for line in sys.stdin:
        name, *values = line.split()
        print(json.dumps(commands[name](*values)), flush=True)


main()
