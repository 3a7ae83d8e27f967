// Stands in for libcuda.so.1: a driver that is there, but too old for any runtime that this project can be
// built with, which looks no further than at its version.
extern "C" int cuDriverGetVersion(int* version) {
  *version = 10000;  // 10.0
  return 0;
}
extern "C" int cuInit(unsigned /*flags*/) { return 0; }
