"""The README's usage page is run: every command must work, and its output must have the form that is shown.

The page shows a model of package descriptions; here a small one of the sample posts takes its place, so figures and
hashtags differ: numbers and hashtags are compared by form, all else to the letter.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ["TAGSPACE"]


def usage_commands():
    """(command, output lines) of each command of the page, in order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    page = text.partition("<!-- usage:begin -->")[2].partition("<!-- usage:end -->")[0]
    commands = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
    return commands


def form(line):
    line = re.sub(r"#\w+", "#tag", line)
    line = re.sub(r"'[^']*'", "'name'", line)
    line = re.sub(r"\d[\d,.]*(-\d+)?", "0", line)
    return re.sub(r" +", " ", line).strip()


class Readme(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tagspace-readme-"))
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("configs", "samples"):
            shutil.copytree(ROOT / name, self.folder / name)
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "tagspace").symlink_to(PROGRAM)
        # The page's posts.
        (self.folder / "data" / "quickstart").mkdir(parents=True)
        for part in ("train", "valid", "test"):
            shutil.copy(ROOT / "samples" / f"posts-{part}.txt", self.folder / "data" / "quickstart" / f"{part}.txt")

    def test_every_command_works_and_prints_what_is_shown(self):
        commands = usage_commands()
        self.assertGreater(len(commands), 6)
        # The page's hashtags are not those of the sample posts.
        environment = dict(os.environ, PATH=f"{self.folder / 'bin'}:{os.environ['PATH']}")
        for command, shown in commands:
            command = re.sub(r"'#\w+'", "'#coffee'", command)
            with self.subTest(command=command):
                done = subprocess.run(command, shell=True, cwd=self.folder, env=environment, encoding="utf-8",
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
                self.assertEqual(done.returncode, 0, done.stderr)
                if shown:
                    self.assertEqual([form(line) for line in done.stdout.splitlines()], [form(line) for line in shown])

    def test_generated_parts_are_up_to_date(self):
        done = subprocess.run([ROOT / "scripts" / "update-docs", "--check", PROGRAM], encoding="utf-8",
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    unittest.main()
