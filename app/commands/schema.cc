#include <memory>
#include <string>

#include "app/commands/command.h"
#include "app/experiment.h"
#include "app/output.h"

namespace tagspace {

Command add_schema(CLI::App& program) {
  auto markdown = std::make_shared<bool>(false);
  CLI::App* app = program.add_subcommand("schema", "The experiment file's JSON Schema, for editors");
  app->add_flag("--markdown", *markdown, "A reference for people instead");
  return {app, [markdown] {
            Output output;
            output.write(*markdown ? experiment_reference() : experiment_schema().dump(2) + "\n");
            output.flush();
            return kSuccess;
          }};
}

}  // namespace tagspace
