// What the reader needs of the parser beyond posts.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data_pipeline/posts.h"

namespace tagspace {

// parse_post(), and every word "__label__tag" is a hashtag too.
[[nodiscard]] Post parse_labelled_post(std::string_view raw, bool lowercase);

// Leaves out empty ones, and all but the first of equal ones.
void keep_distinct_hashtags(std::vector<std::string>& hashtags);

}  // namespace tagspace
