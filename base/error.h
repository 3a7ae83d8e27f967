// The one exception type for mistakes that a person can mend: bad input, a bad setting, a full disk.
#pragma once

#include <stdexcept>
#include <string>

namespace tagspace {

// What went wrong, in words for the person at the keyboard: names the file, line or key, what was found and
// what is allowed. The program prints it after "tagspace: error: " and exits with status 1. A broken
// assumption of the code itself is a std::logic_error instead.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

// A training whose numbers are not finite any more: its settings are to blame, and another may do.
class Diverged : public Error {
 public:
  using Error::Error;
};

}  // namespace tagspace
