// How long a cache line takes from one core to another and back, in nanoseconds: a number, or nothing on a
// machine of one core. Where a virtual machine's cores lie far apart, or come to, all that threads share
// takes longer, and figures of one minute are not those of the next.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

namespace {

constexpr int kTrips = 20'000;

double nanoseconds_of_trip() {
  std::atomic<int> ball{0};
  std::thread other([&ball] {
    for (int i = 0; i < 2 * kTrips; i += 2) {
      while (ball.load(std::memory_order_acquire) != i + 1) {
      }
      ball.store(i + 2, std::memory_order_release);
    }
  });
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 2 * kTrips; i += 2) {
    ball.store(i + 1, std::memory_order_release);
    while (ball.load(std::memory_order_acquire) != i + 2) {
    }
  }
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  other.join();
  return took.count() / kTrips;
}

}  // namespace

int main() {
  if (std::thread::hardware_concurrency() < 2) return 0;
  std::array<double, 5> trips{};
  for (double& trip : trips) trip = nanoseconds_of_trip();
  std::sort(trips.begin(), trips.end());
  std::printf("%.0f\n", trips[trips.size() / 2]);
}
