#!/usr/bin/env python3
"""Makes posts with hashtags out of the descriptions of Debian's packages.

    apt-cache dumpavail | scripts/package_posts.py FOLDER

writes FOLDER/train.txt, valid.txt and test.txt, one post a line: a package's one-line description, then its debtags
as hashtags. The facet stays part of a hashtag, since a tag means little without it, and what may not stand in a
hashtag becomes an underscore:

    game::strategy         #game_strategy
    works-with::image      #works_with_image
    implemented-in::c++    #implemented_in_cpp

Packages with the same description are one post, with the hashtags of all. The hash of the text says which file a
post goes to: 90 of 100 train, 5 validate, 5 test. What is hashed leaves out the part that only tells the packages of
one program apart, as in "vector graphics editor (data files)" or "vector graphics editor - documentation", so that
the test is not on near copies of what was trained on. The same lists give the same files.
"""

import hashlib
import os
import re
import sys

FEWEST_POSTS = 1000


def stanzas(lines):
    """The fields Description and Tag of each package."""
    fields, name = {}, None
    for line in lines:
        if line == "\n":
            yield fields
            fields, name = {}, None
        elif line[0] in " \t":
            if name == "Tag":
                fields[name] += line
        else:
            name, _, value = line.partition(":")
            if name == "Description" or name == "Tag":
                fields[name] = value
    yield fields


def hashtag(debtag):
    return re.sub(r"[^a-z0-9]+", "_", debtag.lower().replace("++", "pp")).strip("_")


def hashtags(tag_field):
    debtags = (debtag.strip() for debtag in tag_field.split(","))
    # "facet::TODO" says that nobody has decided yet; "special::" is about the tagging itself.
    return {hashtag(debtag) for debtag in debtags
            if "::" in debtag and not debtag.endswith("TODO") and not debtag.startswith("special::")}


def post_text(description):
    text = " ".join(description.split())
    return re.sub(r"#(?=\w*[^\W\d])", "", text)  # "#include" in a description is no hashtag.


def part(text):
    stem = re.sub(r"\([^)]*\)", " ", text.lower())
    stem = re.split(r"\s-+\s", stem)[0]
    stem = " ".join(re.findall(r"\w+", stem)) or text
    share = int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "big") % 100
    return "train" if share < 90 else "valid" if share < 95 else "test"


def write_whole(path, lines):
    with open(path + ".partial", "w", encoding="utf-8") as file:
        file.writelines(lines)
    os.replace(path + ".partial", path)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: apt-cache dumpavail | scripts/package_posts.py FOLDER")
    folder = sys.argv[1]
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")

    posts = {}
    for fields in stanzas(sys.stdin):
        text, tags = post_text(fields.get("Description", "")), hashtags(fields.get("Tag", ""))
        if text and tags:
            posts.setdefault(text, set()).update(tags)
    if len(posts) < FEWEST_POSTS:
        sys.exit(f"scripts/package_posts.py: only {len(posts)} of the packages have a description and debtags; "
                 f"{FEWEST_POSTS} are wanted")

    parts = {"test": [], "valid": [], "train": []}
    for text in sorted(posts):
        tags = " ".join("#" + tag for tag in sorted(posts[text]))
        parts[part(text)].append(f"{text} {tags}\n")
    os.makedirs(folder, exist_ok=True)
    for name, lines in parts.items():
        write_whole(os.path.join(folder, name + ".txt"), lines)
    print("{:,} posts to train, {:,} to validate, {:,} to test".format(
        *(len(parts[name]) for name in ("train", "valid", "test"))))


if __name__ == "__main__":
    main()
