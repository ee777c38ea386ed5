// Memory of the simulated device: an address space that the host cannot read, a device
// allocator with a cap and planned failures, and an allocator of pinned host memory.

#include "simdev.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include <sys/mman.h>
#include <unistd.h>

#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>

namespace simdev {

Lock lock() {
  static auto* mutex = new std::mutex;
  return Lock(*mutex);
}

Counters& counters() {
  static auto* all = new Counters();
  return *all;
}

Block::Block(size_t size, int slot)
    : bytes(static_cast<char*>(std::malloc(size))), size(size), slot(slot) {
  TORCH_CHECK(bytes != nullptr, "simdev: the host has no ", size, " bytes left");
}

Block::~Block() { std::free(bytes); }

namespace {

using c10::CachingDeviceAllocator::DeviceStats;
constexpr size_t kRounding = 512;  // CUDA charges multiples of this
constexpr size_t kReserved = size_t{1} << 40;
constexpr int64_t kNominalBytes = int64_t{16} << 30;

struct Device {
  int64_t cap = kNominalBytes;
  DeviceStats stats;
};

struct Memory {
  std::map<uintptr_t, BlockPtr> device, pinned;
  std::array<Device, kMaxDevices> devices;
  uintptr_t next = 0, end = 0;  // addresses not given out yet
  int64_t fail_nth = -1, fail_above = -1;
  pid_t pid = getpid();
};

Memory& memory() {
  static auto* all = new Memory;
  return *all;
}

size_t rounded(size_t size) { return (size + kRounding - 1) / kRounding * kRounding; }

// Addresses are never used twice and lie a gap apart, so that a stale or overrun
// pointer finds no block instead of another tensor's.
char* next_address(const Lock&, size_t size) {
  auto& all = memory();
  if (all.next == 0) {
    void* start = mmap(nullptr, kReserved, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TORCH_CHECK(start != MAP_FAILED, "simdev: cannot reserve an address space");
    all.next = reinterpret_cast<uintptr_t>(start);
    all.end = all.next + kReserved;
  }
  TORCH_CHECK(all.end - all.next > size + 2 * kRounding, "simdev: addresses used up");
  auto* address = reinterpret_cast<char*>(all.next);
  all.next += rounded(size) + kRounding;
  return address;
}

BlockPtr find(const std::map<uintptr_t, BlockPtr>& blocks, const void* address) {
  auto key = reinterpret_cast<uintptr_t>(address);
  auto after = blocks.upper_bound(key);
  if (after == blocks.begin()) return nullptr;
  auto& [start, block] = *std::prev(after);
  return key < start + block->size ? block : nullptr;
}

void check_room(const Lock&, int index, size_t size) {
  auto& all = memory();
  auto& device = all.devices[index];
  auto used = device.stats.allocated_bytes[0].current;
  bool planned = all.fail_nth == 0 ||
      (all.fail_above >= 0 && static_cast<int64_t>(size) > all.fail_above);
  if (all.fail_nth >= 0) --all.fail_nth;
  if (!planned && used + static_cast<int64_t>(rounded(size)) <= device.cap) return;
  ++device.stats.num_ooms;
  TORCH_CHECK_WITH(OutOfMemoryError, false, "simdev:", index, " out of memory. Tried to "
                   "allocate ", size, " bytes; ", used, " of ", device.cap,
                   " bytes are in use", planned ? " (a planned failure)." : ".");
}

void charge(Device& device, size_t size, bool more) {
  auto& stats = device.stats;
  for (auto* stat : {&stats.allocated_bytes[0], &stats.reserved_bytes[0],
                     &stats.active_bytes[0], &stats.requested_bytes[0]})
    more ? stat->increase(rounded(size)) : stat->decrease(rounded(size));
  for (auto* stat : {&stats.allocation[0], &stats.active[0], &stats.segment[0]})
    more ? stat->increase(1) : stat->decrease(1);
}

void free_device(void* address) {
  auto held = lock();
  auto& blocks = memory().device;
  auto found = blocks.find(reinterpret_cast<uintptr_t>(address));
  if (found == blocks.end()) return;
  auto block = found->second;
  blocks.erase(found);
  was_freed(held, *block);
  charge(memory().devices[block->slot / kStreamsPerDevice], block->size, false);
}

void free_pinned(void* address) {
  auto held = lock();
  memory().pinned.erase(reinterpret_cast<uintptr_t>(address));
}

struct DeviceAllocator final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t size) override {
    auto index = current_device();
    auto device = c10::Device(c10::kPrivateUse1, static_cast<c10::DeviceIndex>(index));
    TORCH_CHECK(getpid() == memory().pid, "Cannot re-initialize simdev in forked "
                "subprocess. To use it with multiprocessing, use the 'spawn' method.");
    if (size == 0) return {nullptr, device};
    auto held = lock();
    check_room(held, index, size);
    auto block = std::make_shared<Block>(size, current_slot(index));
    block->address = next_address(held, size);
    std::memset(block->bytes, kPoison, size);
    memory().device[reinterpret_cast<uintptr_t>(block->address)] = block;
    charge(memory().devices[index], size, true);
    was_allocated(held, *block);
    ++counters().allocations;
    return {block->address, block->address, &free_device, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_device; }
  void copy_data(void* target, const void* source, size_t size) const override {
    auto to = find_block(target), from = find_block(source);
    TORCH_CHECK(to && from, "simdev: copy_data needs device addresses");
    auto slot = current_slot(current_device());
    start_kernel(slot, "copy_data", {{from, 0, size, false}, {to, 0, size, true}});
    std::memcpy(to->bytes, from->bytes, size);
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override { ++counters().empty_cache; }
  void recordStream(const c10::DataPtr& data, c10::Stream stream) override {
    auto block = find_block(data.get());
    if (!block) return;
    auto held = lock();
    block->recorded.push_back(slot_of(stream));
  }
  DeviceStats getDeviceStats(c10::DeviceIndex index) override {
    auto held = lock();
    return memory().devices.at(index).stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex index) override {
    auto held = lock();
    auto& stats = memory().devices.at(index).stats;
    for (auto* stat : {&stats.allocated_bytes[0], &stats.reserved_bytes[0],
                       &stats.active_bytes[0], &stats.requested_bytes[0],
                       &stats.allocation[0], &stats.active[0], &stats.segment[0]})
      stat->reset_accumulated();
    stats.num_ooms = 0;
  }
  void resetPeakStats(c10::DeviceIndex index) override {
    auto held = lock();
    auto& stats = memory().devices.at(index).stats;
    for (auto* stat : {&stats.allocated_bytes[0], &stats.reserved_bytes[0],
                       &stats.active_bytes[0], &stats.requested_bytes[0],
                       &stats.allocation[0], &stats.active[0], &stats.segment[0]})
      stat->reset_peak();
  }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex index) override {
    auto held = lock();
    auto& device = memory().devices.at(index);
    auto used = device.stats.allocated_bytes[0].current;
    return {std::max<int64_t>(device.cap - used, 0), device.cap};
  }
};

struct PinnedAllocator final : at::HostAllocator {
  c10::DataPtr allocate(size_t size) override {
    if (size == 0) return {nullptr, c10::Device(c10::kCPU)};
    auto block = std::make_shared<Block>(size, -1);
    block->address = block->bytes;
    std::memset(block->bytes, kPoison, size);
    auto held = lock();
    memory().pinned[reinterpret_cast<uintptr_t>(block->address)] = block;
    ++counters().pinned_allocations;
    return {block->address, block->address, &free_pinned, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_pinned; }
  void copy_data(void* target, const void* source, size_t size) const override {
    std::memcpy(target, source, size);
  }
  // Copies under way keep their blocks alive themselves.
  bool record_event(void* address, void*, c10::Stream) override {
    return find_pinned(address) != nullptr;
  }
  void empty_cache() override { ++counters().empty_cache; }
  at::HostStats get_stats() override { return {}; }
  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}
};

// Made on first use: other files' static registrations may ask for them early.
DeviceAllocator& the_device_allocator() {
  static auto* allocator = new DeviceAllocator;
  return *allocator;
}

PinnedAllocator& the_pinned_allocator() {
  static auto* allocator = new PinnedAllocator;
  return *allocator;
}

[[maybe_unused]] const bool allocators_registered = [] {
  c10::SetAllocator(c10::kPrivateUse1, &the_device_allocator());
  at::setHostAllocator(c10::kPrivateUse1, &the_pinned_allocator());
  memory();  // remembers the process that loaded it
  return true;
}();

}  // namespace

c10::Allocator* device_allocator() { return &the_device_allocator(); }
c10::Allocator* pinned_allocator() { return &the_pinned_allocator(); }

BlockPtr find_block(const void* address) {
  auto held = lock();
  return find(memory().device, address);
}

BlockPtr find_pinned(const void* address) {
  auto held = lock();
  return find(memory().pinned, address);
}

void set_cap(int device, int64_t bytes) {
  auto held = lock();
  memory().devices.at(device).cap = bytes < 0 ? kNominalBytes : bytes;
}

void fail_allocations(int64_t nth, int64_t above_bytes) {
  auto held = lock();
  memory().fail_nth = nth;
  memory().fail_above = above_bytes;
}

}  // namespace simdev
