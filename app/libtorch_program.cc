#include "app/libtorch_program.h"

#include <cerrno>
#include <cstring>
#include <system_error>
#include <unistd.h>

#include "base/error.h"

namespace tagspace {

void become_libtorch_program(char** arguments) {
  constexpr const char* kName = "tagspace-libtorch";
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error)
    throw Error("cannot tell where this program is, to find " + std::string(kName) +
                " beside it: " + error.message());
  const std::filesystem::path beside = self.parent_path() / kName;
  const std::filesystem::path installed = (self.parent_path() / TAGSPACE_LIBEXEC / kName).lexically_normal();
  for (const auto& path : {beside, installed}) {
    ::execv(path.c_str(), arguments);
    if (errno != ENOENT && errno != ENOTDIR) {
      throw Error("cannot run '" + path.string() + "': " + std::strerror(errno));
    }
  }
  throw Error("this needs LibTorch and with it the program " + std::string(kName) + ", which is neither '" +
              beside.string() + "' nor '" + installed.string() + "'; build or install it, too");
}

}  // namespace tagspace
