// Encoding on a GPU, by the model that trains there.
#include <memory>

#include "app/libtorch_program.h"

namespace tagspace {

EncodePosts encoder_on_device(const std::string& device, const std::filesystem::path& checkpoint,
                              ModelConfig config, bool as_bag) {
  config.device = find_device(device);
  if (!config.device.cuda) return nullptr;
  // Checkpoints are in float32, and what is not trained has no updates.
  config.table_format = TableFormat::float32;
  config.row_updates = RowUpdateMode::deterministic;
  const auto model = std::make_shared<Model>(config);
  (void)model->load(checkpoint, false);
  return [model, as_bag](const PackedBatch& batch, float* post_vectors) {
    model->encode(batch, as_bag, post_vectors);
  };
}

}  // namespace tagspace
