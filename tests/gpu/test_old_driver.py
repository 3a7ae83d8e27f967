#!/usr/bin/env python3
"""With a driver that is too old, programs of the GPU fail and say why: that is not a machine without a GPU, where tests
are skipped.

$PROGRAMS: their paths, separated by colons. $OLD_DRIVER: the folder of a libcuda.so.1 that says it is old. $NO_GPU: what
output CTest takes for that of a machine without a GPU.
"""

import os
import re
import subprocess
import unittest


class OldDriver(unittest.TestCase):
    def test_programs_fail_and_say_why(self):
        folders = ":".join(filter(None, (os.environ["OLD_DRIVER"], os.environ.get("LD_LIBRARY_PATH"))))
        for program in os.environ["PROGRAMS"].split(":"):
            with self.subTest(os.path.basename(program)):
                done = subprocess.run([program], env={**os.environ, "LD_LIBRARY_PATH": folders}, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True, check=False)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn("driver version is insufficient", done.stdout)
                self.assertIsNone(re.search(os.environ["NO_GPU"], done.stdout), done.stdout)


if __name__ == "__main__":
    unittest.main()
