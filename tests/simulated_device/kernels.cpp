// Every computation of the simulated device: the CPU's kernel, run on CPU tensors over
// the same bytes. Around it stand the checks that a real accelerator would make.

#include "tensors.h"

#include <cstring>
#include <string_view>
#include <unordered_set>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace simdev {
namespace {

// The size of their result depends on values, so a real device waits for itself.
bool waits_for_values(const c10::OperatorHandle& op, c10::ArrayRef<c10::IValue> args) {
  static const std::unordered_set<std::string_view> names = {
      "aten::nonzero", "aten::masked_select", "aten::_unique", "aten::_unique2",
      "aten::unique_dim", "aten::unique_consecutive", "aten::unique_dim_consecutive",
      "aten::equal", "aten::bincount", "aten::_linalg_check_errors"};
  std::string_view name = op.schema().name();
  if (name == "aten::repeat_interleave") return args.back().isNone();
  if (name.find("index_put") == name.npos) return names.count(name) > 0;
  // x[mask] = y counts the mask, x[mask] = number does not. (x[mask] calls nonzero.)
  if (args[2].toTensor().numel() == 1) return false;
  for (std::optional<at::Tensor> index : args[1].toOptionalTensorList())
    if (index && index->scalar_type() == at::kBool) return true;
  return false;
}

// Arguments that CUDA takes from the CPU although others live on the device.
bool may_be_on_host(const c10::OperatorHandle& op, const c10::Argument& arg) {
  std::string_view op_name = op.schema().name();
  return (arg.name() == "indices" && op_name.find("index") != op_name.npos) ||
      arg.name() == "batch_sizes";
}

// They follow to the device; ATen has moved those of x[index] already.
bool is_uploaded(const c10::OperatorHandle& op, const c10::Argument& arg) {
  return arg.name() == "indices" && op.schema().name() != "aten::index";
}

// One call of an operator with device tensors, on the host.
class HostCall {
 public:
  HostCall(const c10::OperatorHandle& op, torch::jit::Stack* stack)
      : op_(op), schema_(op.schema()), stack_(*stack) {
    for (auto& result : schema_.returns())
      TORCH_CHECK_NOT_IMPLEMENTED(
          !result.alias_info() || result.alias_info()->isWrite(), "Could not run '",
          schema_.operator_name(), "' on simdev: it returns a view");
    find_device();
  }

  void run() {
    auto slot = current_slot(device_);
    bool waits = waits_for_values(op_, args());
    for (size_t i = 0; i < schema_.arguments().size(); ++i) to_host(i);
    start_kernel(slot, schema_.name().c_str(), uses_);
    ++counters().kernels;
    if (waits || uploads_) host_waits_for(slot);
    {
      InsideKernel inside;
      op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack_);
    }
    return_generator();
    for (auto& change : changed_) write_back(change);
    for (size_t i = 0; i < schema_.returns().size(); ++i) to_device(i);
  }

 private:
  struct Changed {
    size_t arg;
    at::Tensor device, host;
    void* bytes;
  };

  c10::ArrayRef<c10::IValue> args() const {
    return torch::jit::last(stack_, schema_.arguments().size());
  }

  template <typename Visit>
  void each_tensor(const c10::IValue& value, Visit visit) {
    if (value.isTensor()) visit(value.toTensor());
    else if (value.isTensorList())
      for (at::Tensor tensor : value.toTensorList()) visit(tensor);
    else if (value.isOptionalTensorList())
      for (std::optional<at::Tensor> tensor : value.toOptionalTensorList())
        if (tensor) visit(*tensor);
  }

  void find_device() {
    for (auto& arg : args())
      each_tensor(arg, [&](const at::Tensor& tensor) {
        if (device_ < 0 && tensor.defined() && tensor.is_privateuseone())
          device_ = tensor.device().index();
      });
    for (auto& arg : args())
      if (device_ < 0 && arg.isDevice() && arg.toDevice().is_privateuseone())
        device_ = index_of(arg.toDevice());
    if (device_ < 0) device_ = current_device();
  }

  void check_device(const at::Tensor& tensor, const c10::Argument& arg, bool written) {
    auto other = tensor.device();
    if (other.is_privateuseone() && other.index() == device_) return;
    if (other.is_cpu() && tensor.dim() == 0 && !written) return;
    if (other.is_cpu() && may_be_on_host(op_, arg)) {
      if (!is_uploaded(op_, arg)) return;
      uploads_ = true;
      ++counters().h2d;
      counters().h2d_bytes += static_cast<int64_t>(tensor.nbytes());
      return;
    }
    TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at "
                "least two devices, simdev:", device_, " and ", other,
                "! (when checking argument ", arg.name(), " of ",
                schema_.operator_name(), ")");
  }

  at::Tensor host_tensor(const at::Tensor& tensor, size_t i) {
    if (!tensor.defined()) return tensor;
    auto& arg = schema_.arguments()[i];
    bool written = arg.alias_info() && arg.alias_info()->isWrite();
    check_device(tensor, arg, written);
    if (!tensor.is_privateuseone()) return tensor;
    add_use(uses_, tensor, written);
    auto host = host_alias(tensor);
    if (written)
      changed_.push_back({i, tensor, host, host.storage().mutable_data()});
    return host;
  }

  void to_host(size_t i) {
    auto& value = stack_[stack_.size() - schema_.arguments().size() + i];
    if (value.isTensor()) {
      value = host_tensor(value.toTensor(), i);
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> hosts;
      for (at::Tensor tensor : value.toTensorList())
        hosts.push_back(host_tensor(tensor, i));
      value = hosts;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> hosts;
      for (std::optional<at::Tensor> tensor : value.toOptionalTensorList())
        hosts.push_back(tensor ? std::optional(host_tensor(*tensor, i)) : std::nullopt);
      value = hosts;
    } else if (value.isDevice()) {
      value = c10::Device(c10::kCPU);
    } else {
      lend_generator(value, *schema_.arguments()[i].type());
    }
  }

  // The CPU's kernels refuse a foreign generator: they draw from one in the same state.
  void lend_generator(c10::IValue& value, const c10::Type& type) {
    if (value.isGenerator()) {
      generator_ = value.toGenerator();
      TORCH_CHECK(generator_.device().is_privateuseone(), "Expected a 'simdev' device "
                  "type for generator but found '", generator_.device().type(), "'");
    } else if (value.isNone() && type.str() == "Generator?") {
      generator_ = default_generator(device_);
    } else {
      return;
    }
    drawing_ = std::unique_lock(generator_.mutex());
    lent_ = at::detail::createCPUGenerator();
    copy_state(generator_, lent_);
    value = lent_;
  }

  void return_generator() {
    if (lent_.defined()) copy_state(lent_, generator_);
  }

  static void copy_state(const at::Generator& from, const at::Generator& to) {
    auto* source = static_cast<at::CPUGeneratorImpl*>(from.unsafeGetGeneratorImpl());
    auto* target = static_cast<at::CPUGeneratorImpl*>(to.unsafeGetGeneratorImpl());
    target->set_engine(source->engine());
    target->set_next_float_normal_sample(source->next_float_normal_sample());
    target->set_next_double_normal_sample(source->next_double_normal_sample());
  }

  // In place is done already, unless the kernel gave its tensor other memory or shape.
  void write_back(const Changed& change) {
    auto& [arg, device, host, bytes] = change;
    bool moved = host.storage().data() != bytes;
    if (!moved && host.sizes() == device.sizes() && host.strides() == device.strides())
      return;
    reshape_in_place(device, host.sizes(), host.strides(), host.storage_offset());
    if (moved) fill(device, host);
  }

  void fill(const at::Tensor& device, const at::Tensor& host) {
    if (host.numel() == 0) return;
    InsideKernel inside;
    host_alias(device).copy_(host);
  }

  at::Tensor device_tensor(const at::Tensor& host) {
    if (!host.defined() || !host.is_cpu()) return host;
    auto packed = host.is_non_overlapping_and_dense() ? host : host.contiguous();
    Naming naming(schema_.name().c_str());
    auto device = empty_on(device_, packed.sizes(), packed.strides(),
                           packed.scalar_type());
    fill(device, packed);
    return device;
  }

  // The argument that a result stands for, as `self` of an in-place operator does.
  const Changed* source_of(const c10::Argument& result) {
    if (!result.alias_info()) return nullptr;
    for (auto& change : changed_) {
      auto* alias = schema_.arguments()[change.arg].alias_info();
      if (*alias == *result.alias_info()) return &change;
    }
    return nullptr;
  }

  void to_device(size_t i) {
    auto& value = stack_[stack_.size() - schema_.returns().size() + i];
    if (value.isTensor()) {
      auto* source = source_of(schema_.returns()[i]);
      value = source ? source->device : device_tensor(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> devices;
      for (at::Tensor tensor : value.toTensorList())
        devices.push_back(device_tensor(tensor));
      value = devices;
    }
  }

  const c10::OperatorHandle& op_;
  const c10::FunctionSchema& schema_;
  torch::jit::Stack& stack_;
  int device_ = -1;
  bool uploads_ = false;
  std::vector<Use> uses_;
  std::vector<Changed> changed_;
  at::Generator generator_, lent_;
  std::unique_lock<std::mutex> drawing_;
};

void run_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  HostCall(op, stack).run();
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

// On a device it does not know ATen goes another way for these: into operators that no
// CPU kernel has, or, for the norms, to other roundings.
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  for (auto* name : {"convolution", "convolution_backward", "lstm.input", "lstm.data",
                     "gru.input", "gru.data", "native_layer_norm", "native_group_norm"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

}  // namespace
}  // namespace simdev
