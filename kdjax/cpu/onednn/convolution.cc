// Convolutions of maps (B, H, W, C) and their gradients by oneDNN, on the threads of XLA.
//
// The batch is cut into as many parts as XLA has threads. oneDNN works on each with one thread, so that two
// convolutions of a program may run at once without a second pool of threads that competes with XLA's own; nothing
// waits for a thread. Gradients of a kernel are summed over parts in their order: the same every time.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

#if DNNL_CPU_RUNTIME == DNNL_RUNTIME_OMP
#include <omp.h>
#endif

namespace ffi = xla::ffi;
using dnnl::memory;

namespace {

#if DNNL_CPU_RUNTIME == DNNL_RUNTIME_OMP
// What the calling thread starts has one thread; afterwards as many as before. Nothing changes for other threads.
struct OneThread {
  OneThread() : before(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before); }
  const int before;
};
#elif DNNL_CPU_RUNTIME == DNNL_RUNTIME_SEQ
struct OneThread {
  OneThread() {}  // it has no others
};
#else
#error "needs oneDNN with OpenMP or without threads of its own"
#endif

enum Pass : int64_t { kOutputs, kInputs, kKernel };  // what is found
enum Then : int64_t { kBias = 1, kAdd = 2, kRelu = 4 };  // what is done to outputs while they are at hand, in this order

// What a part of the batch does: everything that oneDNN chooses its code by.
struct Task {
  Pass pass;
  int64_t then;
  memory::data_type type;
  memory::dims maps, kernel, outputs;  // as oneDNN has them: (B, C, H, W), (O, I, h, w)
  memory::dims strides, dilations, low, high;

  std::vector<int64_t> Key() const {
    std::vector<int64_t> key{pass, then, static_cast<int64_t>(type)};
    for (const auto* dims : {&maps, &kernel, &outputs, &strides, &dilations, &low, &high})
      key.insert(key.end(), dims->begin(), dims->end());
    return key;
  }
};

// The chosen code, which this thread keeps, as it keeps the memory that the code works in.
struct Program {
  dnnl::primitive run, arrange;
  memory::desc maps, kernel, outputs, plain_kernel, scratch;
};

dnnl::engine& Engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

template <typename Chosen>
Program Made(const Chosen& chosen, memory::desc maps, memory::desc kernel, memory::desc outputs, const Task& task) {
  const auto type = task.pass == kKernel ? memory::data_type::f32 : task.type;
  Program made{dnnl::primitive(chosen), {}, maps, kernel, outputs,
               memory::desc(task.kernel, type, memory::format_tag::hwio), chosen.scratchpad_desc()};
  if (made.kernel != made.plain_kernel) {
    const auto& from = task.pass == kKernel ? made.kernel : made.plain_kernel;
    const auto& to = task.pass == kKernel ? made.plain_kernel : made.kernel;
    made.arrange = dnnl::reorder(dnnl::reorder::primitive_desc(Engine(), from, Engine(), to));
  }
  return made;
}

memory::desc Bias(const Task& task) {
  return memory::desc({task.kernel[0]}, memory::data_type::f32, memory::format_tag::x);
}

Program Chosen(const Task& task) {
  const memory::desc maps(task.maps, task.type, memory::format_tag::nhwc);
  const memory::desc outputs(task.outputs, task.type, memory::format_tag::nhwc);
  const memory::desc kernel(task.kernel, task.pass == kKernel ? memory::data_type::f32 : task.type,
                            memory::format_tag::any);
  const memory::desc free(task.kernel, task.type, memory::format_tag::any);
  const memory::desc bias = task.then & kBias ? Bias(task) : memory::desc();
  dnnl::post_ops then;
  if (task.then & kAdd) then.append_sum(1.0f);
  dnnl::primitive_attr plain;
  plain.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::primitive_attr attributes = plain;
  const auto kind = task.pass == kOutputs ? dnnl::prop_kind::forward_inference : dnnl::prop_kind::forward_training;
  const auto how = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
  if (task.then & kRelu) then.append_eltwise(dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
  attributes.set_post_ops(then);
  const dnnl::convolution_forward::primitive_desc forward(Engine(), kind, how, maps, free, bias, outputs, task.strides,
                                                          task.dilations, task.low, task.high, attributes);
  if (task.pass == kOutputs) return Made(forward, maps, forward.weights_desc(), outputs, task);
  if (task.pass == kInputs) {
    const dnnl::convolution_backward_data::primitive_desc backward(
        Engine(), how, maps, kernel, outputs, task.strides, task.dilations, task.low, task.high, forward, plain);
    return Made(backward, maps, backward.weights_desc(), outputs, task);
  }
  const dnnl::convolution_backward_weights::primitive_desc backward(
      Engine(), how, maps, kernel, outputs, task.strides, task.dilations, task.low, task.high, forward, plain);
#else
  if (task.then & kRelu) then.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
  attributes.set_post_ops(then);
  const dnnl::convolution_forward::primitive_desc forward(
      {kind, how, maps, free, bias, outputs, task.strides, task.dilations, task.low, task.high}, attributes, Engine());
  if (task.pass == kOutputs) return Made(forward, maps, forward.weights_desc(), outputs, task);
  if (task.pass == kInputs) {
    const dnnl::convolution_backward_data::primitive_desc backward(
        {how, maps, kernel, outputs, task.strides, task.dilations, task.low, task.high}, plain, Engine(), forward);
    return Made(backward, maps, backward.weights_desc(), outputs, task);
  }
  const dnnl::convolution_backward_weights::primitive_desc backward(
      {how, maps, kernel, outputs, task.strides, task.dilations, task.low, task.high}, plain, Engine(), forward);
#endif
  return Made(backward, maps, backward.diff_weights_desc(), outputs, task);
}

void* Room(std::vector<char>& kept, size_t bytes) {
  constexpr size_t kAlign = 64;
  if (kept.size() < bytes + kAlign) kept.resize(bytes + kAlign);
  const auto address = reinterpret_cast<uintptr_t>(kept.data());
  return reinterpret_cast<void*>((address + kAlign - 1) / kAlign * kAlign);
}

void Run(const Task& task, void* maps, void* kernel, void* outputs, void* bias) {
  const OneThread one;
  thread_local std::map<std::vector<int64_t>, Program> programs;
  thread_local std::vector<char> scratch, arranged;
  thread_local dnnl::stream stream(Engine());
  const auto key = task.Key();
  auto at = programs.find(key);
  if (at == programs.end()) at = programs.emplace(key, Chosen(task)).first;
  const Program& program = at->second;

  const bool arranges = static_cast<bool>(program.arrange);
  memory plain(program.plain_kernel, Engine(), kernel);
  memory own(program.kernel, Engine(), arranges ? Room(arranged, program.kernel.get_size()) : kernel);
  memory found_maps(program.maps, Engine(), maps), found_outputs(program.outputs, Engine(), outputs);
  memory room(program.scratch, Engine(), Room(scratch, program.scratch.get_size()));
  std::unordered_map<int, memory> arguments{{DNNL_ARG_SCRATCHPAD, room}};
  if (task.pass == kOutputs)
    arguments.insert({{DNNL_ARG_SRC, found_maps}, {DNNL_ARG_WEIGHTS, own}, {DNNL_ARG_DST, found_outputs}});
  if (task.then & kBias)
    arguments.insert({DNNL_ARG_BIAS, memory(Bias(task), Engine(), bias)});
  if (task.pass == kInputs)
    arguments.insert({{DNNL_ARG_DIFF_SRC, found_maps}, {DNNL_ARG_WEIGHTS, own}, {DNNL_ARG_DIFF_DST, found_outputs}});
  if (task.pass == kKernel)
    arguments.insert({{DNNL_ARG_SRC, found_maps}, {DNNL_ARG_DIFF_WEIGHTS, own}, {DNNL_ARG_DIFF_DST, found_outputs}});
  if (arranges && task.pass != kKernel) program.arrange.execute(stream, {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, own}});
  program.run.execute(stream, arguments);
  if (arranges && task.pass == kKernel) program.arrange.execute(stream, {{DNNL_ARG_FROM, own}, {DNNL_ARG_TO, plain}});
  stream.wait();
}

// All parts of a convolution; who ends last says that it is done.
struct Job {
  explicit Job(int64_t parts) : left(parts) {}
  std::atomic<int64_t> left;
  ffi::Promise promise;
  std::mutex mutex;
  std::string failure;
  std::vector<float> sums;  // gradients of the kernel, of all parts but the first
};

ffi::Future Convolution(ffi::ThreadPool pool, ffi::AnyBuffer first, ffi::AnyBuffer second,
                        ffi::RemainingArgs more, ffi::Result<ffi::AnyBuffer> found, int64_t pass, int64_t then,
                        ffi::Span<const int64_t> strides, ffi::Span<const int64_t> pads,
                        ffi::Span<const int64_t> dilations) {
  const ffi::AnyBuffer& maps = pass == kInputs ? *found : first;
  const ffi::AnyBuffer& kernel = pass == kKernel ? *found : second;
  const ffi::AnyBuffer& outputs = pass == kOutputs ? *found : pass == kInputs ? first : second;
  const auto m = maps.dimensions(), k = kernel.dimensions(), o = outputs.dimensions();
  const bool half = first.element_type() == ffi::BF16;
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(pool.num_threads(), m[0]));
  const size_t weights = kernel.element_count();
  auto job = std::make_shared<Job>(parts);
  if (pass == kKernel) job->sums.resize((parts - 1) * weights);
  ffi::Future done(job->promise);

  const Task whole{static_cast<Pass>(pass), then, half ? memory::data_type::bf16 : memory::data_type::f32,
                   {m[0], m[3], m[1], m[2]}, {k[3], k[2], k[0], k[1]}, {o[0], o[3], o[1], o[2]},
                   {strides[0], strides[1]}, {dilations[0] - 1, dilations[1] - 1},
                   {pads[0], pads[2]}, {pads[1], pads[3]}};
  char* const map_data = static_cast<char*>(maps.untyped_data());
  char* const kernel_data = static_cast<char*>(kernel.untyped_data());
  char* const output_data = static_cast<char*>(outputs.untyped_data());
  void* const bias = then & kBias ? more.get<ffi::AnyBuffer>(0)->untyped_data() : nullptr;
  if (then & kAdd) {  // outputs lie where what is added to them was, unless XLA decided otherwise
    const void* const before = more.get<ffi::AnyBuffer>(1)->untyped_data();
    if (before != output_data) std::memcpy(output_data, before, outputs.size_bytes());
  }
  const size_t width = half ? 2 : 4, map_bytes = width * m[1] * m[2] * m[3], output_bytes = width * o[1] * o[2] * o[3];

  const auto work = [=](int64_t part) {
    const int64_t from = m[0] * part / parts, to = m[0] * (part + 1) / parts;
    try {
      Task task = whole;
      task.maps[0] = task.outputs[0] = to - from;
      const bool apart = pass == kKernel && part > 0;
      Run(task, map_data + from * map_bytes, apart ? job->sums.data() + (part - 1) * weights : (void*)kernel_data,
          output_data + from * output_bytes, bias);
    } catch (const std::exception& error) {
      std::lock_guard<std::mutex> lock(job->mutex);
      job->failure = std::string("oneDNN: ") + error.what();
    }
    if (job->left.fetch_sub(1) > 1) return;
    for (size_t at = 0; at < job->sums.size(); ++at) reinterpret_cast<float*>(kernel_data)[at % weights] += job->sums[at];
    if (job->failure.empty())
      job->promise.SetAvailable();
    else
      job->promise.SetError(ffi::Error::Internal(job->failure));
  };
  for (int64_t part = 1; part < parts; ++part) pool.Schedule([=] { work(part); });
  work(0);
  return done;
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(kdjax_convolution, Convolution,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("found")
                                  .Attr<int64_t>("then")
                                  .Attr<ffi::Span<const int64_t>>("strides")
                                  .Attr<ffi::Span<const int64_t>>("pads")
                                  .Attr<ffi::Span<const int64_t>>("dilations"));

extern "C" int64_t kdjax_onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return (int64_t{version->major} * 1000 + version->minor) * 1000 + version->patch;
}

// Whether this oneDNN, on this processor, knows a way for convolutions of this kind: asked by making one, small.
extern "C" int kdjax_onednn_can(int half, int pass, int then) {
  const Task small{static_cast<Pass>(pass), then, half ? memory::data_type::bf16 : memory::data_type::f32,
                   {1, 16, 8, 8}, {24, 16, 3, 3}, {1, 24, 8, 8}, {1, 1}, {0, 0}, {1, 1}, {1, 1}};
  const OneThread one;
  try {
    Chosen(small);
    return 1;
  } catch (const dnnl::error&) {
    return 0;
  }
}
