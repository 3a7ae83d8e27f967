// WARP for one instruction set, without fused multiply-adds: scores and decisions equal warp_reference's bit
// for bit.
#include "model/kernels/philox.h"
#include "model/kernels/simd.h"
#include "model/kernels/simd_dot.h"
#include "model/kernels/simd_philox.h"
#include "model/kernels/simd_vector.h"
#include "model/kernels/warp_draws.h"

namespace tagspace::kernels {
namespace {

using Int8 = std::int32_t __attribute__((vector_size(32)));
using Int4 = std::int32_t __attribute__((vector_size(16)));

inline float inverse_norm(float squared_norm) {
  return squared_norm == 0 ? 0 : 1 / __builtin_sqrtf(squared_norm);
}

inline bool contains(const std::uint32_t* begin, const std::uint32_t* end, std::uint32_t row) {
  while (end - begin > 8) {
    const std::uint32_t* middle = begin + (end - begin) / 2;
    if (*middle <= row) {
      begin = middle;
    } else {
      end = middle;
    }
  }
  for (; begin != end; ++begin) {
    if (*begin == row) return true;
  }
  return false;
}

// Bit r is set where lane r is not zero.
inline std::uint32_t bits_of(const Int8& mask) {
  const Int8 numbered = mask & Int8{1, 2, 4, 8, 16, 32, 64, 128};
  const Int4 four = __builtin_shufflevector(numbered, numbered, 0, 1, 2, 3) |
                    __builtin_shufflevector(numbered, numbered, 4, 5, 6, 7);
  const Int4 two = four | __builtin_shufflevector(four, four, 2, 3, 2, 3);
  return static_cast<std::uint32_t>(two[0] | two[1]);
}

// The rows that kDraws draws of a pair propose under `sampled`, from Philox block `first` on, a multiple of
// kDraws / 2. The blocks are computed side by side, written so that compilers make vector code of it.
constexpr std::uint32_t kDraws = 16;
inline void propose(const WarpConfig& config, const WarpBatch& batch, std::uint32_t pair, std::uint32_t first,
                    std::uint32_t* proposed) {
  constexpr std::uint32_t kBlocks = kDraws / 2;
  Eight words[4] = {Eight{0, 1, 2, 3, 4, 5, 6, 7} + first, Eight{} + pair,
                    Eight{} + static_cast<std::uint32_t>(batch.step),
                    Eight{} + static_cast<std::uint32_t>(batch.step >> 32)};
  philox_eight(philox_key(config.seed, RandomStream::negatives), words);
  // The high half of u * rows, as rows has 32 bits.
  const std::uint64_t rows = batch.rows;
  for (std::size_t i = 0; i < kBlocks; ++i) {
    proposed[2 * i] = static_cast<std::uint32_t>((rows * words[1][i] + (rows * words[0][i] >> 32)) >> 32);
    proposed[2 * i + 1] = static_cast<std::uint32_t>((rows * words[3][i] + (rows * words[2][i] >> 32)) >> 32);
  }
}

// A pair on its way to a violator.
struct Search {
  std::uint32_t post;
  std::uint32_t pair;
  const float* vector;
  float vector_inverse;  // 1 / its length with the cosine
  float positive_score;
  float threshold;
  const std::uint32_t* own;
  std::uint32_t own_count;
  std::uint32_t tries;
  std::uint32_t violator;
  float violator_score;
  const float* violator_vector;  // where it was scored, as it is in the cache from there
};

// WARP for the posts of a task. `kCosine` is the score.
template <bool kCosine>
class PostSearch {
 public:
  PostSearch(const WarpConfig& config, const WarpBatch& batch, float gradient_scale, const WarpResult& result)
      : config_(config),
        batch_(batch),
        result_(result),
        gradient_scale_(gradient_scale),
        dim_(batch.dim),
        max_draws_(max_draws(config)) {}

  void sampled(std::size_t begin, std::size_t end) const {
    for_pairs(begin, end, [this](Search& search) {
      if (search.own_count < batch_.rows) search_alone(search);
      finish(search);
    });
  }

  void shared(std::size_t begin, std::size_t end, const SharedPool& pool) const {
    bool far = true;  // whether searches go beyond the pair's first group
    for_pairs(begin, end, [&](Search& search) {
      prefetch_group(pool, place_in_pool(config_, number_of(search) + 1, 0) / kGroup * kGroup);
      if (search.own_count < batch_.rows) search_pool(search, pool, far);
      far = search.tries > kGroup;
      finish(search);
    });
  }

  void fill(const SharedPool& pool, std::uint32_t begin, std::uint32_t end) const {
    // Rows are anywhere in memory, which is asked for many of them at a time, before their draws' turn.
    constexpr std::uint32_t kAhead = 2 * kDraws;
    const auto ask = [&](std::uint32_t draws) {
      propose(config_, batch_, 0, draws / 2, pool.rows + draws);
      for (std::uint32_t draw = draws; draw < draws + kDraws; ++draw) prefetch_row(pool.rows[draw]);
    };
    for (std::uint32_t draws = begin; draws < begin + kAhead; draws += kDraws) ask(draws);
    for (std::uint32_t draws = begin; draws < end; draws += kDraws) {
      if (draws + kAhead < end) ask(draws + kAhead);
      for (std::uint32_t draw = draws; draw < draws + kDraws; ++draw) {
        const float* const from = row(pool.rows[draw]);
        float* const to = pool.vectors + std::size_t{draw} * dim_;
        for (std::size_t i = 0; i < dim_; ++i) to[i] = from[i];
        if (kCosine) pool.inverses[draw] = inverse_of(to);
      }
    }
  }

  // Positives are anywhere in memory, too.
  [[gnu::always_inline]] void prefetch_positives(std::size_t begin, std::size_t end) const {
    if (end > batch_.posts) end = batch_.posts;
    for (std::size_t post = begin; post < end; ++post) {
      for (std::uint32_t pair = batch_.positive_offsets[post]; pair < batch_.positive_offsets[post + 1];
           ++pair)
        prefetch_row(batch_.positives[pair]);
    }
  }

  void exact(std::size_t begin, std::size_t end, std::uint64_t* bits) const {
    Search searches[kPairsAtOnce];
    std::uint32_t count = 0;
    const auto flush = [&] {
      score_all(searches, count, bits);
      for (std::uint32_t i = 0; i < count; ++i) {
        choose(searches[i], bits + i * words_of_bits(batch_.rows));
        finish(searches[i]);
      }
      count = 0;
    };
    for_pairs(begin, end, [&](const Search& search) {
      if (count == kPairsAtOnce) flush();
      searches[count++] = search;
    });
    if (count > 0) flush();
  }

 private:
  [[nodiscard]] const float* row(std::uint32_t id) const { return batch_.table + std::size_t{id} * dim_; }
  [[nodiscard]] std::uint32_t number_of(const Search& search) const {
    return batch_.first_pair + search.pair;
  }
  [[nodiscard]] float inverse_of(const float* vector) const {
    return kCosine ? inverse_norm(dot(vector, vector, dim_)) : 1;
  }
  [[nodiscard]] float score(const Search& search, const float* of_row) const {
    return dot(search.vector, of_row, dim_) * search.vector_inverse * inverse_of(of_row);
  }
  [[gnu::always_inline]] void prefetch_row(std::uint32_t id) const { prefetch(row(id), dim_); }

  // Calls body(search) for all pairs of the posts, in order, and sets the posts' gradients to zero.
  template <typename Body>
  void for_pairs(std::size_t begin, std::size_t end, const Body& body) const {
    for (std::size_t post = begin; post < end; ++post) {
      float* gradient = result_.post_gradient + post * dim_;
      for (std::size_t i = 0; i < dim_; ++i) gradient[i] = 0;
    }
    for (std::size_t post = begin; post < end; ++post) {
      Search search{};
      search.post = static_cast<std::uint32_t>(post);
      search.vector = batch_.post_vectors + post * dim_;
      search.vector_inverse = inverse_of(search.vector);
      search.own = batch_.own + batch_.own_offsets[post];
      search.own_count = batch_.own_offsets[post + 1] - batch_.own_offsets[post];
      search.violator = kNoViolator;
      for (std::uint32_t pair = batch_.positive_offsets[post]; pair < batch_.positive_offsets[post + 1];
           ++pair) {
        Search of_pair = search;
        of_pair.pair = pair;
        of_pair.positive_score = score(of_pair, row(batch_.positives[pair]));
        of_pair.threshold = violation_threshold(config_, of_pair.positive_score);
        body(of_pair);
      }
    }
  }

  // One over the lengths of a group of rows.
  void inverses_of(const float* const* rows, Vec8& inverses) const {
    dot_group<true>(nullptr, rows, dim_, inverses);
    for (std::uint32_t r = 0; r < kGroup; ++r) inverses[r] = inverse_norm(inverses[r]);
  }

  [[gnu::always_inline]] void prefetch_group(const SharedPool& pool, std::uint32_t place) const {
    prefetch(pool.vectors + std::size_t{place} * dim_, kGroup * dim_);
  }

  // The scores of a group of rows, and which of them violate. `inverses` with the cosine.
  void score_group(const Search& search, const float* const* rows, const Vec8* inverses, Vec8& scores,
                   Int8& violates) const {
    dot_group<false>(search.vector, rows, dim_, scores);
    if constexpr (kCosine) scores = scores * search.vector_inverse * *inverses;
    violates = ~(scores <= search.threshold);
  }

  // Takes `count` draws, at most a group, as tries, up to the first violator. True when the search is over.
  // Behind `count`, `rows` points to any rows. Of a whole group, draw i may be row (i + turn) mod kGroup.
  bool take(Search& search, const std::uint32_t* ids, const float* const* rows, std::uint32_t count,
            const Vec8* inverses, std::uint32_t turn = 0) const {
    Vec8 scores;
    Int8 violates;
    score_group(search, rows, inverses, scores, violates);
    Int8 ids_of_group;
    __builtin_memcpy(&ids_of_group, ids, sizeof ids_of_group);
    std::uint32_t own_bits = 0;
    if (search.own_count <= 8) {
      Int8 own = {};
      for (std::uint32_t i = 0; i < search.own_count; ++i)
        own |= ids_of_group == static_cast<std::int32_t>(search.own[i]);
      own_bits = bits_of(own);
    } else {
      for (std::uint32_t r = 0; r < kGroup; ++r)
        own_bits |= std::uint32_t{contains(search.own, search.own + search.own_count, ids[r])} << r;
    }
    const std::uint32_t counted = (1U << count) - 1;
    const auto in_order = [turn](std::uint32_t bits) { return bits >> turn | bits << (kGroup - turn); };
    const std::uint32_t tries = ~in_order(own_bits) & counted;
    const std::uint32_t violators = in_order(bits_of(violates)) & tries;
    const std::uint32_t upto = violators == 0 ? tries : tries & ((violators & (0 - violators)) * 2 - 1);
    const auto made = static_cast<std::uint32_t>(__builtin_popcount(upto));
    const std::uint32_t allowed = config_.max_tries - search.tries;
    if (made > allowed || (made == allowed && violators == 0)) {
      search.tries = config_.max_tries;
      return true;
    }
    search.tries += made;
    if (violators == 0) return false;
    const std::uint32_t first = (static_cast<std::uint32_t>(__builtin_ctz(violators)) + turn) % kGroup;
    search.violator = ids[first];
    search.violator_score = scores[first];
    search.violator_vector = rows[first];
    return true;
  }

  // Draws of its own for one pair.
  void search_alone(Search& search) const {
    const std::uint32_t number = number_of(search);
    std::uint32_t ids[2 * kDraws];  // of the draws at hand and of the next
    const float* rows[kGroup];
    propose(config_, batch_, number, 0, ids);
    for (std::uint32_t r = 0; r < kGroup; ++r) prefetch_row(ids[r]);
    // One of the first two violates often, early in training.
    constexpr std::uint32_t kAlone = 2;
    for (std::uint32_t draw = 0; draw < kAlone; ++draw) {
      if (contains(search.own, search.own + search.own_count, ids[draw])) continue;
      ++search.tries;
      search.violator_score = score(search, row(ids[draw]));
      if (!(search.violator_score <= search.threshold)) {
        search.violator = ids[draw];
        search.violator_vector = row(ids[draw]);
        return;
      }
      if (search.tries == config_.max_tries) return;
    }
    for (std::uint32_t draw = kAlone; draw < max_draws_;) {
      // The next group's rows are asked for before this one's are waited for.
      const std::uint32_t next = draw / kGroup * kGroup + kGroup;
      if (next % kDraws == 0) propose(config_, batch_, number, next / 2, ids + next % (2 * kDraws));
      for (std::uint32_t r = 0; r < kGroup; ++r) prefetch_row(ids[next % (2 * kDraws) + r]);
      const std::uint32_t count = (next < max_draws_ ? next : max_draws_) - draw;
      std::uint32_t group[kGroup];
      for (std::uint32_t r = 0; r < kGroup; ++r) {
        group[r] = ids[draw % (2 * kDraws) + (r < count ? r : 0)];
        rows[r] = row(group[r]);
      }
      Vec8 inverses;
      if (kCosine) inverses_of(rows, inverses);
      if (take(search, group, rows, count, &inverses)) return;
      draw += count;
    }
  }

  // The pool, in the pair's order. `far`: it will probably take more than a group.
  void search_pool(Search& search, const SharedPool& pool, bool far) const {
    static_assert(kGroup == kPoolGroup);
    const std::uint32_t number = number_of(search);
    std::uint32_t place = place_in_pool(config_, number, 0);
    const std::uint32_t turn = place % kGroup;
    place -= turn;
    std::uint32_t looked_up[2][kDraws];  // of draws that are not gathered: this group's and the next one's
    for (std::uint32_t draw = 0; draw < max_draws_; draw += kGroup) {
      const std::uint32_t next = place_in_pool(config_, number, draw + kGroup) - turn;
      std::uint32_t* const next_ids = looked_up[(draw / kGroup + 1) % 2];
      if (draw + kGroup < pool.gathered) {
        if (far || draw > 0) prefetch_group(pool, next);
      } else if (draw + kGroup < max_draws_) {
        propose(config_, batch_, 0, next / kDraws * (kDraws / 2), next_ids);
        for (std::uint32_t r = 0; r < kGroup; ++r) prefetch_row(next_ids[next % kDraws + r]);
      }
      const std::uint32_t* ids = pool.rows + place;
      const float* rows[kGroup];
      Vec8 inverses;
      if (draw < pool.gathered) {
        for (std::uint32_t r = 0; r < kGroup; ++r) rows[r] = pool.vectors + std::size_t{place + r} * dim_;
        if (kCosine) __builtin_memcpy(&inverses, pool.inverses + place, sizeof inverses);
      } else {
        ids = looked_up[draw / kGroup % 2] + place % kDraws;
        for (std::uint32_t r = 0; r < kGroup; ++r) rows[r] = row(ids[r]);
        if (kCosine) inverses_of(rows, inverses);
      }
      if (take(search, ids, rows, kGroup, &inverses, turn)) return;
      place = next;
    }
  }

  static constexpr std::uint32_t kTile = 64;  // rows; a word of bits
  // Bit `id` of a search's bits: the row violates. Tiles of rows stay in the first cache for all searches.
  void score_all(const Search* searches, std::uint32_t count, std::uint64_t* bits) const {
    const std::uint32_t total = batch_.rows;
    const std::size_t words = words_of_bits(total);
    for (std::uint32_t first = 0; first < total; first += kTile) {
      const float* rows[kTile];
      Vec8 inverses[kTile / kGroup];
      const std::uint32_t size = total - first < kTile ? total - first : kTile;
      for (std::uint32_t i = 0; i < kTile; ++i) rows[i] = row(i < size ? first + i : first);
      if (kCosine) {
        for (std::uint32_t i = 0; i < size; i += kGroup) inverses_of(rows + i, inverses[i / kGroup]);
      }
      for (std::uint32_t s = 0; s < count; ++s) {
        std::uint64_t word = 0;
        for (std::uint32_t i = 0; i < size; i += kGroup) {
          Vec8 scores;
          Int8 violates;
          score_group(searches[s], rows + i, &inverses[i / kGroup], scores, violates);
          word |= std::uint64_t{bits_of(violates)} << i;
        }
        if (size < kTile) word &= (std::uint64_t{1} << size) - 1;
        bits[s * words + first / kTile] = word;
      }
    }
  }

  // Tries and violator from their distribution.
  void choose(Search& search, std::uint64_t* bits) const {
    for (std::uint32_t i = 0; i < search.own_count; ++i)
      bits[search.own[i] / 64] &= ~(std::uint64_t{1} << (search.own[i] % 64));
    const std::size_t words = words_of_bits(batch_.rows);
    std::uint32_t violators = 0;
    for (std::size_t i = 0; i < words; ++i)
      violators += static_cast<std::uint32_t>(__builtin_popcountll(bits[i]));
    const ExactDraw draw =
        exact_draw(config_, batch_.step, number_of(search), violators, batch_.rows - search.own_count);
    search.tries = draw.tries;
    if (!draw.found) return;
    std::uint32_t before = draw.chosen;
    std::size_t word = 0;
    for (;; ++word) {
      const auto here = static_cast<std::uint32_t>(__builtin_popcountll(bits[word]));
      if (before < here) break;
      before -= here;
    }
    std::uint64_t left = bits[word];
    for (; before > 0; --before) left &= left - 1;
    search.violator =
        static_cast<std::uint32_t>(word * 64) + static_cast<std::uint32_t>(__builtin_ctzll(left));
    search.violator_vector = row(search.violator);
    search.violator_score = score(search, search.violator_vector);
  }

  // Loss and gradients. See warp_reference for the derivative.
  void finish(const Search& search) const {
    const std::uint32_t pair = search.pair;
    result_.violator[pair] = search.violator;
    result_.tries[pair] = search.tries;
    result_.loss[pair] = 0;
    result_.positive_gradient[pair] = {};
    result_.negative_gradient[pair] = {};
    if (search.violator == kNoViolator) return;
    const float* positive = row(batch_.positives[pair]);
    const float* negative = search.violator_vector;
    const float weight = config_.weight_of_tries[search.tries - 1];
    const LossOfPair of_pair = loss_of_pair(config_, search.positive_score, search.violator_score);
    result_.loss[pair] = weight * of_pair.loss;
    const float w = weight * of_pair.slope * gradient_scale_;
    const float p_inverse = search.vector_inverse;
    const float positive_inverse = inverse_of(positive);
    const float negative_inverse = inverse_of(negative);
    const float to_positive = -w * p_inverse * positive_inverse;
    const float to_negative = w * p_inverse * negative_inverse;
    result_.positive_gradient[pair].post = to_positive;
    result_.negative_gradient[pair].post = to_negative;
    float p_self = 0;
    if (kCosine) {
      result_.positive_gradient[pair].row = w * search.positive_score * positive_inverse * positive_inverse;
      result_.negative_gradient[pair].row = -w * search.violator_score * negative_inverse * negative_inverse;
      p_self = w * (search.positive_score - search.violator_score) * p_inverse * p_inverse;
    }
    float* gradient = result_.post_gradient + std::size_t{search.post} * dim_;
    for (std::size_t i = 0; i < dim_; ++i) {
      gradient[i] += to_negative * negative[i] + to_positive * positive[i] + p_self * search.vector[i];
    }
  }

  const WarpConfig& config_;
  const WarpBatch& batch_;
  const WarpResult& result_;
  float gradient_scale_;
  std::size_t dim_;
  std::uint32_t max_draws_;
};

template <bool kCosine>
void search_posts(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                  const WarpResult& result, std::size_t begin, std::size_t end, const SharedPool& pool,
                  std::uint64_t* bits) {
  const PostSearch<kCosine> search(config, batch, gradient_scale, result);
  // Those of the task behind it, too, with which the thread probably goes on. `exact` is for tables that
  // caches hold.
  if (config.negatives != Negatives::exact) search.prefetch_positives(begin, end + (end - begin));
  switch (config.negatives) {
    case Negatives::sampled:
      return search.sampled(begin, end);
    case Negatives::shared:
      return search.shared(begin, end, pool);
    case Negatives::exact:
      return search.exact(begin, end, bits);
  }
}

}  // namespace

namespace TAGSPACE_ISA {
void fill_pool(const WarpConfig& config, const WarpBatch& batch, const SharedPool& pool, std::uint32_t begin,
               std::uint32_t end);
void fill_pool(const WarpConfig& config, const WarpBatch& batch, const SharedPool& pool, std::uint32_t begin,
               std::uint32_t end) {
  if (config.score == Score::cosine) {
    PostSearch<true>(config, batch, 0, {}).fill(pool, begin, end);
  } else {
    PostSearch<false>(config, batch, 0, {}).fill(pool, begin, end);
  }
}

void warp_posts(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                const WarpResult& result, std::size_t begin, std::size_t end, const SharedPool& pool,
                std::uint64_t* bits);
void warp_posts(const WarpConfig& config, const WarpBatch& batch, float gradient_scale,
                const WarpResult& result, std::size_t begin, std::size_t end, const SharedPool& pool,
                std::uint64_t* bits) {
  if (config.score == Score::cosine) {
    search_posts<true>(config, batch, gradient_scale, result, begin, end, pool, bits);
  } else {
    search_posts<false>(config, batch, gradient_scale, result, begin, end, pool, bits);
  }
}
}  // namespace TAGSPACE_ISA

}  // namespace tagspace::kernels
