// Tensors of the simulated device: how they are made, viewed, resized and copied.

#include "tensors.h"

#include <cstring>

#include <ATen/EmptyTensor.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/is_set_to_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/util/strides.h>
#include <torch/library.h>

namespace simdev {

at::Tensor host_alias(const at::Tensor& tensor) {
  auto& storage = tensor.storage();
  auto block = find_block(storage.data());
  TORCH_CHECK(block || storage.nbytes() == 0 || !storage.data(),
              "simdev: a tensor's memory was not allocated on this device");
  auto data = c10::DataPtr(block ? block->bytes : nullptr, c10::Device(c10::kCPU));
  // Resizable, since a kernel may ask for a larger `out`.
  auto host = c10::Storage(c10::Storage::use_byte_size_t(), storage.nbytes(),
                           std::move(data), c10::GetCPUAllocator(), true);
  auto alias = at::detail::make_tensor<c10::TensorImpl>(
      std::move(host), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
  auto* impl = alias.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(tensor.sizes(), tensor.strides(),
                              tensor.storage_offset());
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  if (tensor.is_conj()) alias._set_conj(true);
  if (tensor.is_neg()) alias._set_neg(true);
  return alias;
}

void add_use(std::vector<Use>& uses, const at::Tensor& tensor, bool write) {
  if (!tensor.defined() || tensor.numel() == 0) return;
  auto* base = static_cast<const char*>(tensor.storage().data());
  auto block = tensor.is_cpu() ? find_pinned(base) : find_block(base);
  if (!block) return;
  auto begin = base - block->address + tensor.storage_offset() * tensor.element_size();
  auto elements = int64_t{1};
  for (int64_t axis = 0; axis < tensor.dim(); ++axis)
    elements += (tensor.size(axis) - 1) * tensor.stride(axis);
  auto end = begin + elements * tensor.element_size();
  uses.push_back({block, static_cast<size_t>(begin), static_cast<size_t>(end), write});
}

at::Tensor empty_on(int device, at::IntArrayRef sizes, at::IntArrayRef strides,
                    at::ScalarType dtype) {
  auto place = c10::Device(c10::kPrivateUse1, static_cast<c10::DeviceIndex>(device));
  c10::DeviceGuard guard(place);
  auto keys = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_strided_generic(sizes, strides, device_allocator(), keys,
                                           dtype);
}

void grow_storage(const c10::Storage& storage, size_t size) {
  auto* impl = storage.unsafeGetStorageImpl();
  TORCH_CHECK(impl->resizable(), "Trying to resize storage that is not resizable");
  auto old = find_block(storage.data());
  c10::DeviceGuard guard(storage.device());
  auto data = device_allocator()->allocate(size);
  auto kept = std::min(size, storage.nbytes());
  auto fresh = find_block(data.get());
  if (old && fresh && kept) {
    auto slot = current_slot(current_device());
    start_kernel(slot, "resize_", {{old, 0, kept, false}, {fresh, 0, kept, true}});
    std::memcpy(fresh->bytes, old->bytes, kept);
  }
  impl->set_data_ptr_noswap(std::move(data));
  impl->set_nbytes(size);
}

void reshape_in_place(const at::Tensor& tensor, at::IntArrayRef sizes,
                      at::IntArrayRef strides, int64_t offset) {
  auto needed = at::detail::computeStorageNbytes(sizes, strides, tensor.element_size(),
                                                 offset);
  if (needed > tensor.storage().nbytes()) grow_storage(tensor.storage(), needed);
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, offset);
}

namespace {

int device_of(std::optional<c10::Device> device) {
  return index_of(device.value_or(c10::Device(c10::kPrivateUse1)));
}

void check_not_pinned(std::optional<bool> pin_memory) {
  TORCH_CHECK(!pin_memory.value_or(false), "Only dense CPU tensors can be pinned");
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<c10::Device> device,
                 std::optional<bool> pin_memory,
                 std::optional<at::MemoryFormat> format) {
  check_not_pinned(pin_memory);
  auto index = static_cast<c10::DeviceIndex>(device_of(device));
  c10::DeviceGuard guard(c10::Device(c10::kPrivateUse1, index));
  auto keys = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_generic(sizes, device_allocator(), keys,
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides,
                         std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<c10::Device> device,
                         std::optional<bool> pin_memory) {
  check_not_pinned(pin_memory);
  return empty_on(device_of(device), sizes, strides, c10::dtype_or_default(dtype));
}

const at::Tensor& resize_(const at::Tensor& self, at::IntArrayRef sizes,
                          std::optional<at::MemoryFormat> format) {
  auto* impl = self.unsafeGetTensorImpl();
  auto needed = at::detail::computeStorageNbytesContiguous(sizes, self.element_size(),
                                                           self.storage_offset());
  if (needed > self.storage().nbytes()) grow_storage(self.storage(), needed);
  impl->set_sizes_contiguous(sizes);
  if (format && *format != at::MemoryFormat::Preserve)
    impl->empty_tensor_restride(*format);
  return self;
}

at::Tensor& set_storage_part(at::Tensor& self, at::Storage source, int64_t offset,
                             at::IntArrayRef sizes, at::IntArrayRef strides) {
  TORCH_CHECK(source.device() == self.device(), "Expected the storage to be on ",
              self.device(), ", but it is on ", source.device());
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(source));
  auto contiguous = c10::contiguous_strides(sizes);
  reshape_in_place(self, sizes, strides.data() ? strides : at::IntArrayRef(contiguous),
                   offset);
  return self;
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source) {
  auto length = static_cast<int64_t>(source.nbytes() / self.element_size());
  return set_storage_part(self, std::move(source), 0, length, 1);
}

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  return at::native::set_tensor_(self, source);
}

void record_stream(at::Tensor& self, c10::Stream stream) {
  auto block = find_block(self.storage().data());
  auto held = lock();
  if (block) block->recorded.push_back(slot_of(stream));
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  std::vector<Use> uses;
  add_use(uses, self, false);
  auto slot = current_slot(self.device().index());
  start_kernel(slot, "item", uses);
  host_waits_for(slot);
  ++counters().items;
  InsideKernel inside;
  return at::_local_scalar_dense(host_alias(self));
}

// ---- copies -------------------------------------------------------------------------

bool same_layout(const at::Tensor& a, const at::Tensor& b) {
  return a.dtype() == b.dtype() && a.sizes() == b.sizes() &&
      a.strides() == b.strides() && a.is_non_overlapping_and_dense() &&
      a.is_conj() == b.is_conj() && a.is_neg() == b.is_neg();
}

at::Tensor resolved(const at::Tensor& tensor) {
  return tensor.resolve_conj().resolve_neg();
}

void copy_on_device(const at::Tensor& source, const at::Tensor& target) {
  std::vector<Use> uses;
  add_use(uses, source, false);
  add_use(uses, target, true);
  auto slot = current_slot(target.device().index());
  auto other = current_slot(source.device().index());
  if (slot != other) join_streams(slot, other);
  start_kernel(slot, "copy on the device", uses);
  if (slot != other) join_streams(slot, other);
  ++counters().d2d;
  InsideKernel inside;
  host_alias(target).copy_(host_alias(source));
}

void upload(const at::Tensor& source, const at::Tensor& target, bool non_blocking) {
  bool direct = same_layout(source, target);
  // As CUDA does: the host casts and packs, one block moves, the device spreads it.
  auto host = direct ? source
                     : resolved(source).to(target.scalar_type())
                           .expand(target.sizes()).contiguous();
  std::vector<Use> uses;
  add_use(uses, host, false);
  auto pinned = !uses.empty();
  add_use(uses, target, true);
  auto size = host.nbytes();
  auto slot = current_slot(target.device().index());
  ++counters().h2d;
  counters().h2d_bytes += static_cast<int64_t>(size);
  auto alias = host_alias(target);
  auto* from = static_cast<char*>(host.data_ptr());
  auto sizes = host.sizes().vec();
  auto dtype = host.scalar_type();
  auto move = [=](const char* bytes) {
    if (direct) {
      std::memcpy(alias.data_ptr(), bytes, size);
      return;
    }
    InsideKernel inside;
    alias.copy_(at::from_blob(const_cast<char*>(bytes), sizes, dtype));
  };
  if (!non_blocking) {
    start_kernel(slot, "copy to the device", uses);
    move(from);
    host_waits_for(slot);
    return;
  }
  // Pageable memory is read before the call returns, pinned memory at some later time.
  auto kept = std::make_shared<std::vector<char>>(from, from + size);
  Copy copy;
  copy.what = "copy to the device";
  copy.size = size;
  if (pinned) {
    copy.source = from;
    copy.run = [=] { move(from); };
    copy.source_changed = [=] { return std::memcmp(from, kept->data(), size) != 0; };
  } else {
    copy.run = [=] { move(kept->data()); };
  }
  enqueue(slot, uses, std::move(copy));
}

// Move the packed bytes of a device tensor to `target`, packed in the same way.
void download_block(const at::Tensor& source, const at::Tensor& target,
                    bool non_blocking) {
  std::vector<Use> uses;
  add_use(uses, source, false);
  auto device_uses = uses.size();
  add_use(uses, target, true);
  auto pinned = uses.size() > device_uses;
  auto size = source.nbytes();
  auto slot = current_slot(source.device().index());
  ++counters().d2h;
  counters().d2h_bytes += static_cast<int64_t>(size);
  auto alias = host_alias(source);
  auto* from = static_cast<char*>(alias.data_ptr());
  auto* to = static_cast<char*>(target.data_ptr());
  // Into pageable memory CUDA returns only when the copy is done, whatever was asked.
  if (!non_blocking || !pinned) {
    start_kernel(slot, "copy to the host", uses);
    host_waits_for(slot);
    std::memcpy(to, from, size);
    return;
  }
  auto staged = std::make_shared<std::vector<char>>(size);
  Copy copy;
  copy.what = "copy to the host";
  copy.size = size;
  copy.target = to;
  copy.run = [=] { std::memcpy(staged->data(), from, size); };
  copy.commit = [=] { std::memcpy(to, staged->data(), size); };
  enqueue(slot, uses, std::move(copy));
}

void download(const at::Tensor& source, const at::Tensor& target, bool non_blocking) {
  if (same_layout(source, target)) return download_block(source, target, non_blocking);
  // As CUDA does: the device packs; it casts too, where nobody waits for the copy.
  auto packed = resolved(non_blocking ? source.to(target.scalar_type()) : source)
                    .expand(target.sizes()).contiguous();
  if (same_layout(packed, target)) return download_block(packed, target, non_blocking);
  auto host = at::empty(packed.sizes(), packed.options().device(c10::kCPU));
  download_block(packed, host, non_blocking);
  target.copy_(host);
}

at::Tensor copy_from(const at::Tensor& source, const at::Tensor& target,
                     bool non_blocking) {
  if (target.numel() == 0) return target;
  if (!source.is_privateuseone()) upload(source, target, non_blocking);
  else if (!target.is_privateuseone()) download(source, target, non_blocking);
  else copy_on_device(source, target);
  return target;
}

at::Tensor copy_from_and_resize(const at::Tensor& source, const at::Tensor& target) {
  if (target.sizes() != source.sizes()) target.resize_(source.sizes());
  return copy_from(source, target, false);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("resize_", &resize_);
  m.impl("set_.source_Storage_storage_offset", &set_storage_part);
  m.impl("set_.source_Storage", &set_storage);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("record_stream", &record_stream);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  // Views share storage, which a call on the host could never give back.
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", static_cast<at::Tensor (*)(const at::Tensor&, at::IntArrayRef)>(
                     &at::native::view));
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("unfold", &at::native::unfold);
  m.impl("view_as_real", &at::native::view_as_real);
  m.impl("view_as_complex", &at::native::view_as_complex);
  m.impl("is_set_to", &at::native::is_set_to);
}

// The copies above look at these bits themselves.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

}  // namespace
}  // namespace simdev
