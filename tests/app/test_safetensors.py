"""Checkpoints are read by Python's own safetensors package, where it is installed."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ["TAGSPACE"]

try:
    from safetensors import safe_open
except ImportError:
    safe_open = None


@unittest.skipIf(safe_open is None, "this Python has no safetensors")
class Safetensors(unittest.TestCase):
    def test_arrays_and_state(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="tagspace-safetensors-"))
        self.addCleanup(shutil.rmtree, folder)
        run = folder / "run"
        settings = ["data.train=samples/posts-train.txt", "data.valid=samples/posts-valid.txt", 'data.test=""',
                    f"data.cache={folder / 'cache'}", "training.epochs=2", "training.bag_epochs=1",
                    "encoder.filters=50"]
        subprocess.run([PROGRAM, "train", "configs/tagspace-64.json", "--output", run,
                        *(part for setting in settings for part in ("--set", setting))],
                       cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
        hashtags = len((run / "hashtags.tsv").read_text(encoding="utf-8").splitlines())
        with safe_open(run / "best.safetensors", "np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            table = file.get_tensor("hashtags")
            state = json.loads(file.metadata()["text"])
        words = shapes["words"][0]
        self.assertEqual(shapes, {"words": (words, 64), "hashtags": (hashtags, 64),
                                  "convolution.weight": (50, 5, 64), "convolution.bias": (50,),
                                  "linear.weight": (64, 50), "linear.bias": (64,)})
        self.assertEqual(state["as_bag"], False)
        # The same numbers as the program's own export.
        subprocess.run([PROGRAM, "export", run, "--output", folder / "vectors"], check=True)
        lines = (folder / "vectors" / "hashtags.vec").read_text(encoding="utf-8").splitlines()
        for row, line in zip(table, lines[1:], strict=True):
            self.assertEqual([float(x) for x in row], [float(type(row[0])(x)) for x in line.split()[1:]])
        with safe_open(run / "last.safetensors", "np") as file:
            self.assertIn("adagrad.words", file.keys())


if __name__ == "__main__":
    unittest.main()
