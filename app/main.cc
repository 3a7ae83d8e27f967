// The programs `tagspace` and tagspace-libtorch: see app/commands for what they can do, and
// libtorch_program.h for what is which.
//
// Exit status: 0, 1 for a failure, 2 for wrong usage; 128 + the signal's number when Ctrl-C or SIGTERM
// stopped a training. Messages go to stderr, results to stdout.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "app/commands/command.h"
#include "app/libtorch_program.h"
#include "app/output.h"
#include "app/suggest.h"
#include "app/version.h"
#include "base/error.h"

namespace {

int fail(const std::string& message) {
  std::fprintf(stderr, "tagspace: error: %s\n", message.c_str());
  return tagspace::kFailure;
}

// The exit status for a first argument that is no command and no option; CLI11's own words would not name it.
std::optional<int> unknown_command(int argc, char** argv, const std::vector<tagspace::Command>& commands) {
  if (argc < 2 || argv[1][0] == '-') return std::nullopt;
  const std::string given = argv[1];
  std::vector<std::string> names;
  names.reserve(commands.size());
  for (const tagspace::Command& command : commands) names.push_back(command.app->get_name());
  if (std::find(names.begin(), names.end(), given) != names.end()) return std::nullopt;
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  const auto nearest = tagspace::nearest_name(given, names);
  std::fprintf(stderr, "tagspace: error: no command is called '%s'%s; there are %s\n", given.c_str(),
               nearest ? ("; did you mean " + *nearest + "?").c_str() : "", list.c_str());
  return tagspace::kWrongUsage;
}

int run(int argc, char** argv) {
  CLI::App program("Hashtags for short posts: one vector space for both (#TagSpace)", "tagspace");
  program.set_version_flag("--version", std::string("tagspace ") + tagspace::kVersion,
                           "Print the version and exit");
  program.require_subcommand(1);
  program.footer("`tagspace COMMAND --help` tells more of a command.");
  const std::vector<tagspace::Command> commands = {
      tagspace::add_train(program),     tagspace::add_tune(program),      tagspace::add_predict(program),
      tagspace::add_evaluate(program),  tagspace::add_recommend(program), tagspace::add_embed(program),
      tagspace::add_neighbors(program), tagspace::add_export(program),    tagspace::add_schema(program)};
  if (const auto unknown = unknown_command(argc, argv, commands)) return *unknown;
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return program.exit(error) == 0 ? tagspace::kSuccess : tagspace::kWrongUsage;
  }
  for (const tagspace::Command& command : commands) {
    if (command.app->parsed()) return command.run();
  }
  return tagspace::kWrongUsage;
}

}  // namespace

int main(int argc, char** argv) {
  // A closed pipe and a file that may not grow are reported by the write that fails, not by the program's
  // death.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    try {
      return run(argc, argv);
    } catch (const tagspace::NeedsLibTorch&) {
      tagspace::become_libtorch_program(argv);
    }
  } catch (const tagspace::ReaderGone&) {
    return tagspace::kSuccess;
  } catch (const tagspace::Error& error) {
    return fail(error.what());
  } catch (const std::bad_alloc&) {
    return fail("there is not enough memory");
  } catch (const std::exception& error) {
    return fail(std::string("this is a mistake in tagspace itself, please report it: ") + error.what());
  }
}
