// Which of planted_bugs.py's mistakes the kernels make that are compiled from its copies.
#include <cstdlib>

extern int planted_bug;
int planted_bug = [] {
  const char* const number = std::getenv("TAGSPACE_PLANTED_BUG");
  return number == nullptr ? 0 : std::atoi(number);
}();
