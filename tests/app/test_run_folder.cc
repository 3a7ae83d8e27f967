#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "app/run_folder.h"
#include "app/training.h"
#include "base/error.h"
#include "base/files.h"

namespace tagspace {
namespace {

class RunFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("tagspace-run-folder-" + std::to_string(::getpid()) + "-" +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directory(folder_);
    TokenizerConfig config;
    config.type = TokenizerType::word;
    config.min_count = 1;
    bool given = false;
    tokenizer_ = Tokenizer::train(
        config,
        [&](std::vector<std::string>& texts) {
          texts = {"some words of some text"};
          return !std::exchange(given, true);
        },
        1);
    HashtagVocabulary::Entry first;
    first.name = "cats";
    first.count = 3;
    HashtagVocabulary::Entry second;
    second.name = "dogs";
    second.count = 2;
    hashtags_ = HashtagVocabulary({first, second});
    experiment_.name = "x";
    experiment_.data.train = "/somewhere/train.txt";
    experiment_.data.valid = "/somewhere/valid.txt";
    experiment_.tokenizer = config;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string error_of_opening(const std::filesystem::path& run) {
    try {
      const RunFolder opened(run);
      (void)opened.load_tokenizer();
      (void)opened.load_hashtags();
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  }

  std::filesystem::path folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  HashtagVocabulary hashtags_;
  Experiment experiment_;
};

TEST_F(RunFolderTest, ReadsBackWhatWasPutThereFromAnotherPlace) {
  (void)RunFolder::create(folder_ / "a" / "b", experiment_, *tokenizer_, std::nullopt, hashtags_);
  std::filesystem::rename(folder_ / "a" / "b", folder_ / "moved");
  const RunFolder run(folder_ / "moved");
  EXPECT_EQ(experiment_to_json(run.experiment()), experiment_to_json(experiment_));
  EXPECT_EQ(run.load_hashtags().size(), 2U);
  EXPECT_EQ(run.load_tokenizer()->vocab_size(), tokenizer_->vocab_size());
}

TEST_F(RunFolderTest, TakesOnlyAnEmptyFolder) {
  std::filesystem::create_directory(folder_ / "empty");
  (void)RunFolder::create(folder_ / "empty", experiment_, *tokenizer_, std::nullopt, hashtags_);
  EXPECT_THROW(RunFolder::check_free(folder_ / "empty"), Error);
  EXPECT_NO_THROW(RunFolder::check_free(folder_ / "new"));
  std::filesystem::create_directory(folder_ / "full");
  write_file(folder_ / "full" / "file", "text");
  EXPECT_THROW(RunFolder::check_free(folder_ / "full"), Error);
  EXPECT_THROW(RunFolder::check_free(folder_ / "full" / "file"), Error);
}

TEST_F(RunFolderTest, NothingIsLeftOfARunThatCannotBeMade) {
  // A file where the run's parent folder should be.
  write_file(folder_ / "file", "text");
  EXPECT_THROW((void)RunFolder::create(folder_ / "file" / "run", experiment_, *tokenizer_, std::nullopt, hashtags_), Error);
  EXPECT_EQ(read_file(folder_ / "file"), "text");
}

TEST_F(RunFolderTest, ErrorsNameTheFile) {
  const auto run = folder_ / "run";
  EXPECT_EQ(error_of_opening(run), "there is no run folder '" + run.string() + "'");
  std::filesystem::create_directory(run);
  EXPECT_EQ(error_of_opening(run),
            "'" + run.string() + "' is no run folder of tagspace: it has no config.json");
  std::filesystem::remove(run);
  (void)RunFolder::create(run, experiment_, *tokenizer_, std::nullopt, hashtags_);
  EXPECT_EQ(error_of_opening(run), "");

  const std::string config = read_file(run / "config.json");
  write_file(run / "config.json", "{\"format\": 2, \"a key of the future\": 1}");
  EXPECT_EQ(error_of_opening(run),
            "the run folder '" + run.string() +
                "' has format 2, but this program reads formats up to 1; use a newer version of tagspace");
  write_file(run / "config.json", "{}");
  EXPECT_NE(error_of_opening(run).find("config.json"), std::string::npos);
  write_file(run / "config.json", config.substr(0, config.size() / 2));
  EXPECT_NE(error_of_opening(run).find("config.json:"), std::string::npos);
  write_file(run / "config.json", config);

  for (const char* file : {"hashtags.tsv", "tokenizer/words.tsv", "tokenizer/tokenizer.json"}) {
    const std::string text = read_file(run / file);
    std::filesystem::remove(run / file);
    EXPECT_NE(error_of_opening(run).find(file), std::string::npos) << error_of_opening(run);
    write_file(run / file, std::string("\0\xff damaged", 10));
    EXPECT_NE(error_of_opening(run).find(file), std::string::npos) << error_of_opening(run);
    write_file(run / file, text);
  }
  EXPECT_EQ(error_of_opening(run), "");
}

TEST(TrainingStateTest, ReadsBackBitForBit) {
  TrainingState state;
  state.phase = 1;
  state.phase_epochs = 2;
  state.epochs = 5;
  state.batch = 1ULL << 40U;
  state.step = 123456789012345ULL;
  state.phase_step = 77;
  state.statistics = {.posts = 3, .violators = 2, .tries = 1ULL << 60U, .loss = 0.1 + 0.2};
  state.best = 1.0 / 3;
  state.best_epoch = 4;
  state.stale_epochs = 1;
  state.epoch_seconds = 1.25;
  state.waiting_seconds = 0.1 + 0.7;
  state.seconds = 9.5;
  state.data = "0123456789abcdef";
  const TrainingState read = TrainingState::from_json(state.to_json(), "f");
  EXPECT_EQ(read.to_json(), state.to_json());
  EXPECT_EQ(read.statistics.loss, state.statistics.loss);
  EXPECT_EQ(read.statistics.tries, state.statistics.tries);
  EXPECT_EQ(read.best, state.best);
  EXPECT_EQ(read.waiting_seconds, state.waiting_seconds);
  state.best.reset();
  EXPECT_EQ(TrainingState::from_json(state.to_json(), "f").best, std::nullopt);
  EXPECT_THROW((void)TrainingState::from_json("{}", "f"), Error);
  EXPECT_THROW((void)TrainingState::from_json("", "f"), Error);
  EXPECT_THROW((void)TrainingState::from_json(R"({"phase": "x"})", "f"), Error);
}

}  // namespace
}  // namespace tagspace
