// The simulated device as PyTorch's runtime knows it: hooks and generators, and the
// operators `torch.ops.simdev.*` by which tests steer and watch it.

#include "tensors.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/List.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <torch/library.h>

namespace simdev {
namespace {

// Draws as the CPU does, so that seeds give the CPU's numbers.
struct Generator final : at::CPUGeneratorImpl {
  explicit Generator(int device) {
    device_ = {c10::kPrivateUse1, static_cast<c10::DeviceIndex>(device)};
    key_set_ = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  }
};

at::Generator make_generator(int device) { return at::make_generator<Generator>(device); }

int index_or_current(c10::DeviceIndex index) {
  return index < 0 ? current_device() : static_cast<int>(index);
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return device_count() > 0; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  void init() const override {}
  c10::DeviceIndex deviceCount() const override {
    return static_cast<c10::DeviceIndex>(device_count());
  }
  void setCurrentDevice(c10::DeviceIndex index) const override { set_device(index); }
  c10::DeviceIndex getCurrentDevice() const override {
    return static_cast<c10::DeviceIndex>(current_device());
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    auto before = getCurrentDevice();
    set_device(index);
    return before;
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    return index < 0 ? getCurrentDevice() : exchangeDevice(index);
  }
  bool isPinnedPtr(const void* data) const override {
    return find_pinned(data) != nullptr;
  }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    return pinned_allocator();
  }
  c10::Device getDeviceFromPtr(void* data) const override {
    auto block = find_block(data);
    TORCH_CHECK(block, "simdev: not an address of this device");
    auto index = block->slot / kStreamsPerDevice;
    return {c10::kPrivateUse1, static_cast<c10::DeviceIndex>(index)};
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override {
    return default_generator(index_or_current(index));
  }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override {
    return make_generator(index_or_current(index));
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage,
                              size_t size) const override {
    grow_storage(storage, size);
  }
};

[[maybe_unused]] const bool hooks_registered = [] {
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  return true;
}();

using Count = std::pair<const char*, std::atomic<int64_t>*>;

std::vector<Count> all_counters() {
  auto& all = counters();
  return {{"h2d", &all.h2d}, {"d2h", &all.d2h}, {"d2d", &all.d2d},
          {"h2d_bytes", &all.h2d_bytes}, {"d2h_bytes", &all.d2h_bytes},
          {"asynchronous_copies", &all.asynchronous_copies},
          {"synchronizations", &all.synchronizations}, {"items", &all.items},
          {"kernels", &all.kernels}, {"allocations", &all.allocations},
          {"pinned_allocations", &all.pinned_allocations},
          {"empty_cache", &all.empty_cache}};
}

c10::Dict<std::string, int64_t> read_counters() {
  c10::Dict<std::string, int64_t> counts;
  for (auto& [name, count] : all_counters()) counts.insert(name, count->load());
  return counts;
}

void reset() {
  reset_streams();
  fail_allocations(-1, -1);
  for (int device = 0; device < kMaxDevices; ++device) set_cap(device, -1);
  for (auto& [name, count] : all_counters()) *count = 0;
}

TORCH_LIBRARY(simdev, m) {
  m.def("device_count() -> int", [] { return int64_t{device_count()}; });
  m.def("current_device() -> int", [] { return int64_t{current_device()}; });
  m.def("set_device(int device) -> ()", [](int64_t device) {
    set_device(static_cast<int>(device));
  });
  m.def("set_cap(int device, int bytes) -> ()", [](int64_t device, int64_t bytes) {
    set_cap(static_cast<int>(device), bytes);
  });
  m.def("fail_allocations(int nth, int above_bytes) -> ()", &fail_allocations);
  m.def("set_lazy(bool lazy) -> ()", &set_lazy);
  m.def("hazards() -> str[]", &hazards);
  m.def("counters() -> Dict(str, int)", &read_counters);
  m.def("reset() -> ()", &reset);
  m.def("manual_seed(int device, int seed) -> ()", [](int64_t device, int64_t seed) {
    auto generator = default_generator(static_cast<int>(device));
    std::lock_guard drawing(generator.mutex());
    generator.set_current_seed(static_cast<uint64_t>(seed));
  });
  m.def("get_rng_state(int device) -> Tensor", [](int64_t device) {
    auto generator = default_generator(static_cast<int>(device));
    std::lock_guard drawing(generator.mutex());
    return generator.get_state();
  });
  m.def("set_rng_state(int device, Tensor state) -> ()",
        [](int64_t device, const at::Tensor& state) {
          auto generator = default_generator(static_cast<int>(device));
          std::lock_guard drawing(generator.mutex());
          generator.set_state(state);
        });
}

}  // namespace

const at::Generator& default_generator(int device) {
  static auto* all = [] {
    auto* generators = new std::vector<at::Generator>;
    for (int index = 0; index < kMaxDevices; ++index)
      generators->push_back(make_generator(index));
    return generators;
  }();
  return all->at(device);
}

}  // namespace simdev
