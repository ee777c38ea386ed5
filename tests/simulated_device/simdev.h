// What the parts of the simulated device know of one another.
//
// One lock guards all state. A function that expects it to be held takes a `const Lock&`
// as a proof. State lives in objects that are never destroyed, since tensors are freed
// until the very end of the process.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/core/Generator.h>
#include <c10/core/Allocator.h>
#include <c10/core/Stream.h>

namespace simdev {

constexpr int kMaxDevices = 4;
constexpr int kStreamsPerDevice = 33;  // the default one and a pool of 32, as on CUDA
constexpr int kSlots = kMaxDevices * kStreamsPerDevice;  // a slot is one stream
constexpr int kPoison = 0xFF;  // NaN in every floating dtype, -1 in every integer

using Lock = std::unique_lock<std::mutex>;
Lock lock();

// ---- clocks -------------------------------------------------------------------------

// For every stream, the number of its last operation that is known to come first.
using Clock = std::array<uint64_t, kSlots>;

// One operation that touched bytes [begin, end) of a block.
struct Access {
  size_t begin, end;
  int slot;
  uint64_t tick;
  bool write;
  const char* what;
};

// ---- memory -------------------------------------------------------------------------

// A piece of device memory, or of pinned host memory.
struct Block {
  Block(size_t size, int slot);
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block();

  char* bytes;               // where the values really are
  char* address = nullptr;   // what tensors hold; not readable for device memory
  size_t size;
  int slot;                  // stream it was allocated on; -1: pinned host memory
  std::vector<Access> accesses;
  std::vector<int> recorded;  // streams announced by Tensor.record_stream
};
using BlockPtr = std::shared_ptr<Block>;

BlockPtr find_block(const void* address);   // device memory, or nullptr
BlockPtr find_pinned(const void* address);  // pinned memory, or nullptr
c10::Allocator* device_allocator();
c10::Allocator* pinned_allocator();
void set_cap(int device, int64_t bytes);  // -1 lifts it
void fail_allocations(int64_t nth, int64_t above_bytes);  // -1 switches each off

// ---- devices and streams ------------------------------------------------------------

int device_count();
int current_device();
void set_device(int device);
int index_of(c10::Device device);  // "simdev" without a number is the current one
int current_slot(int device);
int slot_of(const c10::Stream& stream);

// Bytes [begin, end) of a block that an operation reads or writes.
struct Use {
  BlockPtr block;
  size_t begin, end;
  bool write;
};

// An asynchronous copy: the device does it late, and the host learns of it later still.
struct Copy {
  std::function<void()> run;     // moves the bytes as the device would
  std::function<void()> commit;  // shows the result to the host; may be empty
  std::function<bool()> source_changed;  // since the copy was asked for; may be empty
  const char* what = "";
  char* source = nullptr;  // pinned memory it reads, `size` bytes
  char* target = nullptr;  // pinned memory it writes, `size` bytes
  size_t size = 0;
};

void start_kernel(int slot, const char* what, const std::vector<Use>& uses);
void enqueue(int slot, const std::vector<Use>& uses, Copy copy);
void join_streams(int first, int second);  // each waits for the other
void host_waits_for(int slot);             // a synchronisation
// Memory allocated meanwhile was written by this operator, hazards will say.
struct Naming {
  explicit Naming(const char* what);
  ~Naming();
};
void was_allocated(const Lock&, Block& block);
void was_freed(const Lock&, Block& block);
void set_lazy(bool lazy);
std::vector<std::string> hazards();
void reset_streams();

// ---- random numbers -----------------------------------------------------------------

const at::Generator& default_generator(int device);

// ---- counters -----------------------------------------------------------------------

struct Counters {
  std::atomic<int64_t> h2d, d2h, d2d, h2d_bytes, d2h_bytes;
  std::atomic<int64_t> asynchronous_copies, synchronizations, items, kernels;
  std::atomic<int64_t> allocations, pinned_allocations, empty_cache;
};
Counters& counters();

}  // namespace simdev
