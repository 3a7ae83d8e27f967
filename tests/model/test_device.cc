#include <ATen/core/Tensor.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <cstdlib>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <string>

#include "base/error.h"
#include "model/device.h"

#ifdef TAGSPACE_HAS_CUDA
#include "model/kernels/cuda/runtime.cuh"
#include "tests/gpu/no_gpu.h"
#endif

namespace tagspace {
namespace {

std::string error_of(const std::string& name) {
  try {
    (void)find_device(name);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST(Device, Names) {
  EXPECT_EQ(find_device("cpu"), Device{});
  EXPECT_EQ(to_string(find_device("cpu")), "cpu");
  EXPECT_EQ(to_string(Device{true, 3}), "cuda:3");
  for (const char* name : {"", "gpu", "cuda:", "cuda:x", "cuda:1x", "cuda1", "cpu:0", "cuda:-1"}) {
    EXPECT_NE(error_of(name).find(std::string("no device is called '") + name + "'"), std::string::npos)
        << name;
  }
}

TEST(Device, AGpuThatCannotBeUsedIsAnErrorThatSaysWhy) {
  // No machine has so many.
  const std::string error = error_of("cuda:999");
  EXPECT_EQ(error.find("cannot use the device cuda:999: "), 0U) << error;
#ifdef TAGSPACE_HAS_CUDA
  EXPECT_EQ(error.find("no GPU code"), std::string::npos) << error;
  EXPECT_EQ(error.find("no NVIDIA driver is there") == std::string::npos, kernels::cuda::driver_is_there())
      << error;
#else
  EXPECT_NE(error.find("this build has no GPU code"), std::string::npos) << error;
  EXPECT_EQ(find_device("auto"), Device{});
#endif
}

TEST(Device, AutoIsWhatCanBeUsed) {
  const std::string error = error_of("cuda");
  EXPECT_EQ(find_device("auto").cuda, error.empty());
  EXPECT_EQ(error.empty() ? "" : "cannot use the device cuda: " + why_no_gpu(), error);
}

#ifdef TAGSPACE_HAS_CUDA
TEST(Device, ADriverThatIsNotThereIsNoOldOne) {
  const std::string reason = why_no_gpu();
  if (!kernels::cuda::driver_is_there()) {
    EXPECT_EQ(reason, "no NVIDIA driver is there");
  } else {
    EXPECT_EQ(reason.find("no NVIDIA driver"), std::string::npos) << reason;
  }
  // See OldDriver.Device.
  const char* const expected = std::getenv("TAGSPACE_TEST_NO_GPU");  // NOLINT(concurrency-mt-unsafe)
  if (expected != nullptr) {
    EXPECT_NE(reason.find(expected), std::string::npos) << reason;
  }
}

// As find_device() does where there is a GPU: the library must be found by the program's own search path, and
// bring its streams and tensors with it.
TEST(Device, LibTorchsCudaPartCanBeLoaded) {
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    const std::string what = "LibTorch's CUDA part, or a library that it needs, is not on this machine: ";
    const std::string reason = dlerror();
    if (no_gpu()) GTEST_SKIP() << what << reason;
    FAIL() << what << reason;
  }
  const auto* guard = c10::impl::getDeviceGuardImpl(at::kCUDA);
  EXPECT_EQ(guard->type(), at::kCUDA);
  EXPECT_EQ(guard->deviceCount() > 0, error_of("cuda").empty());
  // The operator is there; whether it can be carried out is the driver's business.
  try {
    const at::Tensor tensor = at::zeros({3}, at::TensorOptions(at::kFloat).device(at::kCUDA));
    EXPECT_EQ(at::sum(tensor).item<float>(), 0);
    EXPECT_FALSE(guard->deviceCount() == 0);
  } catch (const c10::Error& error) {
    EXPECT_EQ(guard->deviceCount(), 0);
    EXPECT_NE(std::string(error.what()).find("driver"), std::string::npos) << error.what();
  }
}
#endif

}  // namespace
}  // namespace tagspace
