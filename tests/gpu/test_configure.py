#!/usr/bin/env python3
"""The choices of cmake/Cuda.cmake, each configured in a folder of its own; and the command lines of tests that need a
GPU, which machines without one never run.

$CMAKE_OPTIONS: what the build around this test was configured with, separated by newlines. All but Choices needs nvcc,
$KERNEL_CHECK, the program, and $INSPECTABLE, a folder that is kept, so that what was built there is not built again.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NO_TESTS = ("-DTAGSPACE_TESTS=OFF", "-DTAGSPACE_BENCHMARKS=OFF")


def run(*command, **options):
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          **options)
    return done.returncode, done.stdout


class Configuring(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="tagspace-configure-")
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def configure(self, *options, folder=None):
        """Exit status, and what CMake says, its lines joined as it breaks them anywhere."""
        given = [option for option in os.environ["CMAKE_OPTIONS"].split("\n") if option]
        status, out = run("cmake", "-S", ROOT, "-B", folder or self.folder, *given, *options)
        return status, out, " ".join(out.split())

    def configured(self, *options, **places):
        status, out, _ = self.configure(*options, **places)
        self.assertEqual(status, 0, out)
        return out


class Choices(Configuring):
    def test_what_is_no_choice(self):
        status, out, said = self.configure("-DTAGSPACE_CUDA=MAYBE", *NO_TESTS)
        self.assertNotEqual(status, 0, out)
        self.assertIn("TAGSPACE_CUDA is 'MAYBE'; it can be AUTO, ON or OFF", said)

    # NOTFOUND is what CMake has where it has looked for nvcc in vain.
    def test_on_insists(self):
        status, out, said = self.configure("-DTAGSPACE_CUDA=ON", "-DCMAKE_CUDA_COMPILER=NOTFOUND", *NO_TESTS)
        self.assertNotEqual(status, 0, out)
        self.assertIn("TAGSPACE_CUDA=ON, but no nvcc was found: put it on PATH, set CUDACXX, or configure with "
                      "TAGSPACE_CUDA=OFF", said)

    def test_auto_goes_without(self):
        out = self.configured("-DTAGSPACE_CUDA=AUTO", "-DCMAKE_CUDA_COMPILER=NOTFOUND", *NO_TESTS)
        self.assertIn("CUDA code: OFF", out)

    def test_off_leaves_the_gpu_code_out(self):
        out = self.configured("-DTAGSPACE_CUDA=OFF", *NO_TESTS)
        self.assertIn("CUDA code: OFF", out)
        self.assertNotIn("The CUDA compiler", out)
        for command in json.loads((self.folder / "compile_commands.json").read_text(encoding="utf-8")):
            self.assertNotRegex(command["file"], r"\.cu$")
            self.assertNotIn("TAGSPACE_HAS_CUDA", command["command"])


class Inspectable(Configuring):
    OPTIONS = ("-DTAGSPACE_CUDA=ON", "-DTAGSPACE_CUDA_INSPECTABLE=ON", *NO_TESTS)

    def test_not_for_architectures_without_a_number(self):
        status, out, said = self.configure(*self.OPTIONS, "-DCMAKE_CUDA_ARCHITECTURES=native")
        self.assertNotEqual(status, 0, out)
        self.assertIn("CMAKE_CUDA_ARCHITECTURES is 'native'; it can be numbers, as in 80;90", said)

    def test_the_program_can_be_looked_into(self):
        folder = pathlib.Path(os.environ["INSPECTABLE"])
        self.configured(*self.OPTIONS, "-DCMAKE_CUDA_ARCHITECTURES=80-real", folder=folder)
        status, out = run("cmake", "--build", folder, "--target", "tagspace_kernel_check")
        self.assertEqual(status, 0, out)
        program = folder / "tagspace_kernel_check"
        self.assertRegex(program.read_bytes(), rb"\.target sm_80[^\0]*\.entry \w*search_kernel")
        status, out = run("readelf", "-d", program)
        self.assertEqual(status, 0, out)
        self.assertRegex(out, r"NEEDED.*libcudart\.so")
        status, out = run(program, "--help")
        self.assertEqual(status, 0, out)  # the shared library is found


class Sanitizers(Configuring):
    def test_command_lines(self):
        stand_in = self.folder / "compute-sanitizer"
        stand_in.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
        stand_in.chmod(0o755)
        build = self.folder / "build"
        self.configured(f"-DCOMPUTE_SANITIZER={stand_in}", "-DTAGSPACE_CUDA=ON", "-DTAGSPACE_TESTS=ON",
                        "-DTAGSPACE_BENCHMARKS=OFF", f"-DPython3_EXECUTABLE={sys.executable}", folder=build)
        status, out = run("ctest", "--test-dir", build, "--show-only=json-v1", "-R", r"^Gpu\.Sanitizer\.")
        self.assertEqual(status, 0, out)
        tests = {test["name"]: test["command"] for test in json.loads(out[out.index("{"):])["tests"]}
        seen = set()
        for name, command in tests.items():
            with self.subTest(name):
                tool = name.split(".")[2]
                self.assertEqual(command[:5], [str(stand_in), "--tool", tool, "--error-exitcode", "3"])
                self.assertEqual("--report-api-errors" in command, name.endswith(".steps"))
                program = next(i for i, word in enumerate(command) if word.startswith(str(build)))
                seen.add((tool, pathlib.Path(command[program]).name))
                if command[program].endswith("tagspace_kernel_check"):
                    # Where there is no GPU it says so, but not before it has understood what is asked of it.
                    status, out = run(os.environ["KERNEL_CHECK"], *command[program + 1:],
                                      env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
                    self.assertEqual(status, 1, out)
                    self.assertIn("no usable GPU", out)
        tools = ("memcheck", "racecheck", "initcheck", "synccheck")
        expected = {(tool, "tagspace_kernel_check") for tool in tools}
        expected |= {(tool, "test_encoder_kernels_on_gpu") for tool in tools if tool != "initcheck"}
        expected |= {("memcheck", "test_gpu_step_on_gpu")}
        self.assertEqual(seen, expected)
        self.assertEqual(len(tests), 4 * 2 * 2 * 4 + 3 + 1)


if __name__ == "__main__":
    unittest.main()
