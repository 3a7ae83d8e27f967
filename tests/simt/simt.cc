#include "tests/simt/simt.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/simt/fiber.h"

namespace simt {
namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr std::size_t kMaxSharedBytes = 227 * 1024;

enum class State { ready, in_collective, at_barrier, finished };

// Thrown in the threads that wait when another, or the block, has failed.
struct Cancelled {};

struct Thread {
  unsigned index = 0;  // within the block
  State state = State::finished;
  std::unique_ptr<Fiber> fiber;

  // What the thread waits for, or waited for last.
  Site site;
  Collective kind = Collective::sync;
  unsigned mask = 0;
  unsigned source = 0;
  std::uint64_t value = 0;
  std::uint64_t result = 0;

  char order = 0;  // its address is the tag of what this thread's __syncwarp releases
};

// Lanes of a warp, as bits.
struct Warp {
  unsigned running = 0;  // have not finished
  unsigned waiting = 0;  // in a collective
};

// The running block.
struct Block {
  std::vector<Thread> threads;  // the first `size` take part; never moved, as fibers know their thread
  unsigned size = 0;
  Warp warps[kMaxThreads / kWarp];
  unsigned running = 0;  // threads that have not finished
  unsigned at_barrier = 0;
  int predicates = 0;
  Thread* current = nullptr;
  const std::function<void()>* kernel = nullptr;
  std::unique_ptr<char, decltype(&std::free)> shared{nullptr, &std::free};
  std::exception_ptr error;
  bool cancelled = false;
  bool shuffled = false;
  std::mt19937_64 random;
  char barrier_order = 0;  // tags, as above
  // Two, so that a thread that starts late is not ordered after one that has finished.
  char start_order = 0;
  char end_order = 0;
};
Block block;

std::string place_of(const Thread& thread) {
  const std::string file = thread.site.file;
  return "thread " + std::to_string(thread.index) + " at " + file.substr(file.rfind('/') + 1) + ":" +
         std::to_string(thread.site.line);
}

[[noreturn]] void fail(const std::string& what, const Thread& thread, const Thread* other = nullptr) {
  throw Error(what + ": block " + std::to_string(blockIdx.x) + ", " + place_of(thread) +
              (other == nullptr ? "" : ", " + place_of(*other)));
}

bool same_site(const Site& a, const Site& b) {
  return a.line == b.line && std::string_view(a.file) == b.file;
}

unsigned warp_begin(const Thread& thread) { return thread.index / kWarp * kWarp; }
Warp& warp_of(const Thread& thread) { return block.warps[thread.index / kWarp]; }

// Calls body(thread) for the lanes in `lanes` of the warp that starts at thread `begin`.
template <typename Body>
void for_lanes(unsigned begin, unsigned lanes, const Body& body) {
  for (; lanes != 0; lanes &= lanes - 1) body(block.threads[begin + std::countr_zero(lanes)]);
}

void complete(unsigned begin, unsigned members, Collective kind) {
  unsigned votes = 0;
  for_lanes(begin, members, [&](const Thread& thread) {
    if (thread.value != 0) votes |= 1U << (thread.index - begin);
  });
  for_lanes(begin, members, [&](Thread& thread) {
    if (kind == Collective::ballot) thread.result = votes;
    if (kind != Collective::shuffle) return;
    if (thread.source == kOwnLane) {
      thread.result = thread.value;
    } else if ((members >> thread.source & 1) == 0) {
      fail("a shuffle reads lane " + std::to_string(thread.source) + ", which does not take part", thread);
    } else {
      thread.result = block.threads[begin + thread.source].value;
    }
  });
  for_lanes(begin, members, [](Thread& thread) { thread.state = State::ready; });
  block.warps[begin / kWarp].waiting &= ~members;
}

// Completes the collective that `thread` waits in, if all lanes of its mask that still run are there.
void try_collective(const Thread& thread) {
  const unsigned begin = warp_begin(thread);
  const unsigned members = thread.mask & warp_of(thread).running;
  if ((warp_of(thread).waiting & members) != members) return;
  for_lanes(begin, members, [&](const Thread& other) {
    if (other.mask != thread.mask) fail("lanes meet in a collective with different masks", thread, &other);
    if (other.kind != thread.kind) fail("lanes meet in different collectives", thread, &other);
    if (!same_site(other.site, thread.site))
      fail("lanes meet in collectives of different places", thread, &other);
  });
  complete(begin, members, thread.kind);
}

void try_barrier() {
  if (block.at_barrier == 0 || block.at_barrier < block.running) return;
  const Thread* first = nullptr;
  for (unsigned i = 0; i < block.size; ++i) {
    Thread& thread = block.threads[i];
    if (thread.state != State::at_barrier) continue;
    if (first == nullptr) first = &thread;
    if (!same_site(thread.site, first->site)) fail("threads wait at different barriers", *first, &thread);
    thread.result = static_cast<std::uint64_t>(block.predicates);
    thread.state = State::ready;
  }
  block.at_barrier = 0;
  block.predicates = 0;
}

void finish(Thread& thread) {
  thread.state = State::finished;
  --block.running;
  warp_of(thread).running &= ~(1U << (thread.index % kWarp));
  // Others may have waited for this thread alone.
  for_lanes(warp_begin(thread), warp_of(thread).waiting, [](const Thread& other) {
    if (other.state == State::in_collective) try_collective(other);
  });
  try_barrier();
}

void give_way() {
  if (block.current->state != State::ready || block.shuffled) Fiber::suspend();
  if (block.cancelled) throw Cancelled();
}

// What a fiber does: the kernel, once for each block.
void run_thread(void* argument) {
  auto& thread = *static_cast<Thread*>(argument);
  for (;;) {
    acquire(&block.start_order);
    try {
      if (block.cancelled) throw Cancelled();
      (*block.kernel)();
      const Unobserved unobserved;
      finish(thread);
    } catch (const Cancelled&) {
      thread.state = State::finished;
    } catch (...) {
      thread.state = State::finished;
      block.error = std::current_exception();
    }
    release(&block.end_order);
    Fiber::suspend();
  }
}

void resume(Thread& thread) {
  block.current = &thread;
  threadIdx = {thread.index % blockDim.x, thread.index / blockDim.x % blockDim.y,
               thread.index / blockDim.x / blockDim.y};
  thread.fiber->resume();
  if (block.error != nullptr) std::rethrow_exception(std::exchange(block.error, nullptr));
}

[[noreturn]] void fail_of_deadlock() {
  const Thread* first = nullptr;
  const Thread* other = nullptr;
  for (unsigned i = 0; i < block.size; ++i) {
    const Thread& thread = block.threads[i];
    if (thread.state == State::finished) continue;
    if (first == nullptr) first = &thread;
    if (other == nullptr && !same_site(thread.site, first->site)) other = &thread;
  }
  fail("deadlock, no thread of the block can go on", *first, other);
}

void run_block(std::size_t shared_bytes) {
  block.running = block.size;
  block.at_barrier = 0;
  block.predicates = 0;
  block.shared.reset(shared_bytes == 0 ? nullptr : static_cast<char*>(std::malloc(shared_bytes)));
  if (shared_bytes != 0) std::memset(block.shared.get(), 0xFF, shared_bytes);
  std::vector<unsigned> order(block.size);
  std::fill(std::begin(block.warps), std::end(block.warps), Warp{});
  for (unsigned i = 0; i < block.size; ++i) {
    block.threads[i].state = State::ready;
    block.warps[i / kWarp].running |= 1U << (i % kWarp);
    order[i] = i;
  }
  while (block.running > 0) {
    if (block.shuffled) std::shuffle(order.begin(), order.end(), block.random);
    bool any = false;
    for (const unsigned i : order) {
      if (block.threads[i].state != State::ready) continue;
      any = true;
      // Not each in every round, or all that do the same would do it in step.
      if (block.shuffled && block.random() % 4 == 0) continue;
      resume(block.threads[i]);
    }
    if (!any) fail_of_deadlock();
  }
}

}  // namespace

void launch(dim3 grid, dim3 block_size, std::size_t shared_bytes, const std::function<void()>& kernel) {
  const Unobserved unobserved;
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  const std::uint64_t threads = std::uint64_t{block_size.x} * block_size.y * block_size.z;
  if (blocks == 0 || threads == 0 || threads > kMaxThreads || shared_bytes > kMaxSharedBytes) {
    throw Error("a launch of " + std::to_string(blocks) + " blocks of " + std::to_string(threads) +
                " threads with " + std::to_string(shared_bytes) + " bytes of shared memory");
  }
  block.threads.resize(kMaxThreads);
  block.size = static_cast<unsigned>(threads);
  for (unsigned i = 0; i < block.size; ++i) {
    Thread& thread = block.threads[i];
    thread.index = i;
    if (thread.fiber == nullptr) thread.fiber = std::make_unique<Fiber>(&run_thread, &thread);
  }
  block.kernel = &kernel;
  block.shuffled = schedule_seed != 0;
  block.random.seed(schedule_seed);
  if (block.shuffled) ++schedule_seed;
  gridDim = grid;
  blockDim = block_size;
  std::vector<std::uint64_t> order(blocks);
  for (std::uint64_t i = 0; i < blocks; ++i) order[i] = i;
  if (block.shuffled) std::shuffle(order.begin(), order.end(), block.random);
  try {
    for (const std::uint64_t i : order) {
      blockIdx = {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                  static_cast<unsigned>(i / grid.x / grid.y)};
      release(&block.start_order);
      run_block(shared_bytes);
      acquire(&block.end_order);
    }
  } catch (...) {
    // The other threads of the block are in the middle of the kernel, and leave it by an exception of their
    // own.
    block.cancelled = true;
    for (unsigned i = 0; i < block.size; ++i) {
      if (block.threads[i].state != State::finished) resume(block.threads[i]);
    }
    block.cancelled = false;
    acquire(&block.end_order);
    throw;
  }
}

void* dynamic_shared() { return block.shared.get(); }

unsigned lane() { return block.current->index % kWarp; }

std::uint64_t collective(Collective kind, unsigned mask, std::uint64_t value, unsigned source, Site site) {
  const Unobserved unobserved;
  Thread& thread = *block.current;
  thread.site = site;
  thread.kind = kind;
  thread.mask = mask;
  thread.value = value;
  thread.source = source;
  if ((mask >> lane() & 1) == 0) fail("a lane is not in the mask of its collective", thread);
  thread.state = State::in_collective;
  warp_of(thread).waiting |= 1U << lane();
  if (kind == Collective::sync) release(&thread.order);
  try_collective(thread);
  give_way();
  if (kind == Collective::sync) {
    for (unsigned i = 0; i < kWarp && warp_begin(thread) + i < block.size; ++i) {
      if ((mask >> i & 1) != 0) acquire(&block.threads[warp_begin(thread) + i].order);
    }
  }
  return thread.result;
}

int barrier(int predicate, Site site) {
  const Unobserved unobserved;
  Thread& thread = *block.current;
  thread.site = site;
  thread.state = State::at_barrier;
  ++block.at_barrier;
  block.predicates += static_cast<int>(predicate != 0);
  release(&block.barrier_order);
  try_barrier();
  give_way();
  acquire(&block.barrier_order);
  return static_cast<int>(thread.result);
}

}  // namespace simt
