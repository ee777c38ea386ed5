// Streams and events of the simulated device, without threads and without time.
//
// Kernels run at once on the calling thread. Asynchronous copies wait in a queue: the
// device runs one when an operation that comes after it needs its stream, and the host
// sees its result only after a synchronisation that covers it. "Comes after" is decided
// by vector clocks, and so are hazards: two operations touch the same bytes, one of them
// writes, and neither is known to come first.

#include "simdev.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <list>
#include <sstream>

#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace simdev {
namespace {

struct Task {
  int slot;
  uint64_t tick;
  bool ran;
  std::vector<BlockPtr> blocks;  // memory stays while a copy is under way
  Copy copy;
};

struct Event {
  int slot = 0;
  Clock clock{};
  bool asked = false;
  std::chrono::steady_clock::time_point recorded_at;
};

struct Streams {
  std::array<Clock, kSlots> clocks{};  // what each stream has waited for
  Clock host{};                        // what the host has waited for
  std::array<uint64_t, kSlots> asked{};  // newest tick that a query answered "not yet"
  std::list<Task> tasks;  // in the order of asking, so every task follows its reasons
  std::vector<std::string> hazards;
  std::array<int, kMaxDevices> next_in_pool{};
  bool lazy = true;
};

Streams& streams() {
  static auto* all = new Streams;
  return *all;
}

thread_local int this_device = 0;
thread_local std::array<int, kMaxDevices> this_stream{};
constexpr const char* kAllocation = "the allocation";
thread_local const char* this_kernel = kAllocation;

void merge(Clock& into, const Clock& other) {
  for (int slot = 0; slot < kSlots; ++slot)
    into[slot] = std::max(into[slot], other[slot]);
}

std::string name_of(int slot) {
  std::ostringstream name;
  name << "stream " << slot % kStreamsPerDevice << " of simdev:"
       << slot / kStreamsPerDevice;
  return name.str();
}

void report(const Lock&, const std::string& text) {
  auto& all = streams().hazards;
  if (std::find(all.begin(), all.end(), text) == all.end()) all.push_back(text);
}

bool overlap(const char* a, const char* b, size_t a_size, size_t b_size) {
  return a && b && a < b + b_size && b < a + a_size;
}

void check_source(const Lock& held, Task& task) {
  if (task.copy.source_changed && task.copy.source_changed()) {
    report(held, std::string(task.copy.what) + " on " + name_of(task.slot) +
                     ": pinned source changed before the copy was known to be complete");
    task.copy.source_changed = nullptr;
  }
}

// Let the device do what is queued and comes before `clock`.
void run_until(const Lock&, const Clock& clock) {
  for (auto& task : streams().tasks) {
    if (task.ran || task.tick > clock[task.slot]) continue;
    task.copy.run();
    task.ran = true;
  }
}

// Let the host know that all before `clock` is complete.
void host_learns(const Lock& held, const Clock& clock) {
  auto& all = streams();
  merge(all.host, clock);
  run_until(held, all.host);
  for (auto task = all.tasks.begin(); task != all.tasks.end();) {
    if (task->tick > all.host[task->slot]) {
      ++task;
      continue;
    }
    check_source(held, *task);
    // A later copy into the same bytes is still under way: they stay unreadable.
    bool again = std::any_of(std::next(task), all.tasks.end(), [&](const Task& later) {
      return overlap(task->copy.target, later.copy.target, task->copy.size,
                     later.copy.size) && later.tick > all.host[later.slot];
    });
    if (task->copy.commit && !again) task->copy.commit();
    task = all.tasks.erase(task);
  }
}

// Take the next tick of a stream, and let all that the host knows come before it.
uint64_t next_tick(const Lock&, int slot) {
  auto& clock = streams().clocks[slot];
  merge(clock, streams().host);
  return ++clock[slot];
}

bool is_before(const Access& access, const Clock& clock) {
  return access.tick <= clock[access.slot];
}

void note(const Lock& held, int slot, uint64_t tick, const char* what, const Use& use) {
  auto& all = streams();
  auto& clock = all.clocks[slot];
  auto& accesses = use.block->accesses;
  for (auto& access : accesses) {
    bool touches = access.begin < use.end && use.begin < access.end;
    if (!touches || !(access.write || use.write) || is_before(access, clock)) continue;
    report(held, std::string(what) + " on " + name_of(slot) +
                     (use.write ? " overwrites" : " reads") + " memory that " +
                     access.what + " on " + name_of(access.slot) +
                     (access.write ? " writes" : " reads") +
                     ", without having waited for it");
  }
  // What the host has waited for, and what this operation covers, is of no more use.
  std::erase_if(accesses, [&](const Access& access) {
    bool covered = use.begin <= access.begin && access.end <= use.end;
    bool replaced = covered && (use.write || (!access.write && access.slot == slot));
    return replaced || is_before(access, all.host);
  });
  accesses.push_back({use.begin, use.end, slot, tick, use.write, what});
}

c10::Stream stream_at(int device, int index) {
  auto place = c10::Device(c10::kPrivateUse1, static_cast<c10::DeviceIndex>(device));
  return c10::Stream(c10::Stream::UNSAFE, place, index);
}

Clock clock_of_device(const Lock&, int device) {
  Clock clock{};
  for (int index = 0; index < kStreamsPerDevice; ++index)
    merge(clock, streams().clocks[device * kStreamsPerDevice + index]);
  return clock;
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kPrivateUse1; }
  c10::DeviceIndex deviceCount() const noexcept override {
    return static_cast<c10::DeviceIndex>(device_count());
  }
  c10::Device getDevice() const override {
    return {c10::kPrivateUse1, static_cast<c10::DeviceIndex>(this_device)};
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    auto before = getDevice();
    setDevice(device);
    return before;
  }
  void setDevice(c10::Device device) const override { set_device(index_of(device)); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index()) this_device = device.index();
  }
  c10::DeviceCapability getDeviceCapability(c10::Device) const override { return {}; }

  c10::Stream getStream(c10::Device device) const override {
    auto index = index_of(device);
    return stream_at(index, this_stream[index]);
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return stream_at(index_of(device), 0);
  }
  c10::Stream getNewStream(c10::Device device, int) const override {
    auto index = index_of(device);
    auto held = lock();
    auto& next = streams().next_in_pool[index];
    next = next % (kStreamsPerDevice - 1) + 1;
    return stream_at(index, next);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    return getNewStream(device, 0);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    auto before = getStream(stream.device());
    this_stream[stream.device_index()] = static_cast<int>(stream.id());
    return before;
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    host_waits_for(slot_of(stream));
  }
  void synchronizeDevice(c10::DeviceIndex index) const override {
    auto held = lock();
    ++counters().synchronizations;
    host_learns(held, clock_of_device(held, index < 0 ? this_device : index));
  }
  // "Not yet" the first time that work is under way, so that polling is exercised.
  bool queryStream(const c10::Stream& stream) const override {
    auto held = lock();
    auto& all = streams();
    auto slot = slot_of(stream);
    auto tick = all.clocks[slot][slot];
    if (tick > all.host[slot] && tick > all.asked[slot]) {
      all.asked[slot] = tick;
      return false;
    }
    host_learns(held, all.clocks[slot]);
    return true;
  }
  void recordDataPtrOnStream(const c10::DataPtr& data,
                             const c10::Stream& stream) const override {
    auto block = find_block(data.get());
    auto held = lock();
    if (block) block->recorded.push_back(slot_of(stream));
  }

  void record(void** handle, const c10::Stream& stream, c10::DeviceIndex,
              c10::EventFlag) const override {
    auto held = lock();
    if (!*handle) *handle = new Event;
    auto slot = slot_of(stream);
    next_tick(held, slot);
    *static_cast<Event*>(*handle) = {slot, streams().clocks[slot], false,
                                     std::chrono::steady_clock::now()};
  }
  void block(void* handle, const c10::Stream& stream) const override {
    auto held = lock();
    merge(streams().clocks[slot_of(stream)], static_cast<Event*>(handle)->clock);
  }
  bool queryEvent(void* handle) const override {
    auto held = lock();
    auto& event = *static_cast<Event*>(handle);
    bool known = event.clock[event.slot] <= streams().host[event.slot];
    if (!known && !event.asked) {
      event.asked = true;
      return false;
    }
    host_learns(held, event.clock);
    return true;
  }
  void synchronizeEvent(void* handle) const override {
    auto held = lock();
    ++counters().synchronizations;
    host_learns(held, static_cast<Event*>(handle)->clock);
  }
  void destroyEvent(void* handle, c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(handle);
  }
  double elapsedTime(void* first, void* second, c10::DeviceIndex) const override {
    auto gap = static_cast<Event*>(second)->recorded_at -
        static_cast<Event*>(first)->recorded_at;
    return std::chrono::duration<double, std::milli>(gap).count();
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

}  // namespace

int device_count() {
  // Asked for once: the autograd engine keeps one thread for each device it first saw.
  static const int count = [] {
    auto* text = std::getenv("SIMDEV_DEVICES");
    return text ? std::clamp(std::atoi(text), 0, kMaxDevices) : 1;
  }();
  return count;
}

int current_device() { return this_device; }

void set_device(int device) {
  TORCH_CHECK(0 <= device && device < device_count(), "invalid simdev device ordinal ",
              device, ": there are ", device_count());
  this_device = device;
}

int index_of(c10::Device device) {
  int index = device.has_index() ? device.index() : this_device;
  TORCH_CHECK(index < device_count(), "invalid simdev device ordinal ", index,
              ": there are ", device_count());
  return index;
}

int current_slot(int device) { return device * kStreamsPerDevice + this_stream[device]; }

int slot_of(const c10::Stream& stream) {
  return stream.device_index() * kStreamsPerDevice + static_cast<int>(stream.id());
}

void start_kernel(int slot, const char* what, const std::vector<Use>& uses) {
  auto held = lock();
  auto tick = next_tick(held, slot);
  for (auto& use : uses) note(held, slot, tick, what, use);
  run_until(held, streams().clocks[slot]);
}

void enqueue(int slot, const std::vector<Use>& uses, Copy copy) {
  auto held = lock();
  auto& all = streams();
  ++counters().asynchronous_copies;
  auto tick = next_tick(held, slot);
  Task task{slot, tick, false, {}, std::move(copy)};
  for (auto& use : uses) {
    note(held, slot, tick, task.copy.what, use);
    task.blocks.push_back(use.block);
  }
  if (task.copy.target) {
    // What comes before may still read these bytes: it does so now.
    run_until(held, all.clocks[slot]);
    for (auto& earlier : all.tasks) {
      if (overlap(task.copy.target, earlier.copy.source, task.copy.size,
                  earlier.copy.size)) {
        check_source(held, earlier);
        earlier.copy.source_changed = nullptr;
      }
      if (overlap(task.copy.target, earlier.copy.target, task.copy.size,
                  earlier.copy.size))
        report(held, std::string(task.copy.what) + " on " + name_of(slot) +
                         " overwrites pinned memory before the host could know that the "
                         "copy into it was complete");
    }
    if (all.lazy) std::memset(task.copy.target, kPoison, task.copy.size);
  }
  if (!all.lazy) {
    run_until(held, all.clocks[slot]);
    task.copy.run();
    task.ran = true;
    if (task.copy.commit) task.copy.commit();
    task.copy.commit = nullptr;
  }
  all.tasks.push_back(std::move(task));
}

void join_streams(int first, int second) {
  auto held = lock();
  auto& clocks = streams().clocks;
  merge(clocks[first], clocks[second]);
  merge(clocks[second], clocks[first]);
}

void host_waits_for(int slot) {
  auto held = lock();
  ++counters().synchronizations;
  host_learns(held, streams().clocks[slot]);
}

void was_allocated(const Lock&, Block& block) {
  // Until its stream gets here, earlier work of that stream may still use the memory.
  auto tick = streams().clocks[block.slot][block.slot];
  block.accesses.push_back({0, block.size, block.slot, tick, true, this_kernel});
}

Naming::Naming(const char* what) { this_kernel = what; }
Naming::~Naming() { this_kernel = kAllocation; }

void was_freed(const Lock& held, Block& block) {
  auto& all = streams();
  for (auto& access : block.accesses) {
    bool ordered = access.slot == block.slot || is_before(access, all.host) ||
        is_before(access, all.clocks[block.slot]) ||
        std::count(block.recorded.begin(), block.recorded.end(), access.slot);
    if (ordered) continue;
    report(held, std::string("memory was freed while ") + access.what + " on " +
                     name_of(access.slot) + " may still use it (Tensor.record_stream)");
    std::memset(block.bytes, kPoison, block.size);  // as the next owner would
  }
}

void set_lazy(bool lazy) {
  auto held = lock();
  streams().lazy = lazy;
}

std::vector<std::string> hazards() {
  auto held = lock();
  for (auto& task : streams().tasks) check_source(held, task);
  return streams().hazards;
}

void reset_streams() {
  auto held = lock();
  auto& all = streams();
  for (int device = 0; device < kMaxDevices; ++device)
    host_learns(held, clock_of_device(held, device));
  all.hazards.clear();
  all.lazy = true;
}

}  // namespace simdev
