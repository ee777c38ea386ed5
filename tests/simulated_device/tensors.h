// How kernels of the simulated device see its tensors.
#pragma once

#include "simdev.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace simdev {

// What runs inside a kernel is no business of autograd, autocast or Python modes.
struct InsideKernel {
  at::AutoDispatchBelowADInplaceOrView no_autograd;
  c10::impl::ExcludeDispatchKeyGuard no_autocast{c10::autocast_dispatch_keyset};
  c10::impl::ExcludeDispatchKeyGuard no_python{c10::python_ks};
};

// A CPU tensor over the bytes of a device tensor: same strides, no copy.
at::Tensor host_alias(const at::Tensor& tensor);

// The bytes a tensor covers, for hazards. Nothing where it has no elements.
void add_use(std::vector<Use>& uses, const at::Tensor& tensor, bool write);

at::Tensor empty_on(int device, at::IntArrayRef sizes, at::IntArrayRef strides,
                    at::ScalarType dtype);

// Give a storage at least `size` bytes.
void grow_storage(const c10::Storage& storage, size_t size);

// Give a device tensor another shape, and the memory it needs.
void reshape_in_place(const at::Tensor& tensor, at::IntArrayRef sizes,
                      at::IntArrayRef strides, int64_t offset);

}  // namespace simdev
