// The one handler that XLA calls: it finds the kernel by its name, and gives tiles to the threads of XLA's own pool.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "runtime.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

const Entry* Entries(int64_t* count);  // of the kernels in this library, for this processor

namespace {

constexpr int64_t kPiece = 1 << 15;  // elements that one thread takes at a time

// Numbers below the smallest normal one are 0, as in XLA's own loops; on every thread alike.
class FlushedDenormals {
 public:
#if defined(__x86_64__)
  FlushedDenormals() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(before_ | 0x8040u); }
  ~FlushedDenormals() { __builtin_ia32_ldmxcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  FlushedDenormals() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(before_));
    __asm__ volatile("msr fpcr, %0" ::"r"(before_ | (uint64_t{1} << 24)));
  }
  ~FlushedDenormals() { __asm__ volatile("msr fpcr, %0" ::"r"(before_)); }

 private:
  uint64_t before_;
#endif
};

struct Piece {
  int32_t leaf;
  int64_t first, last;
};

// The pieces of one call. Who comes takes the next; a thread that comes when none is left does nothing, so a pool whose
// threads all wait for their own calls comes to no standstill.
struct Work {
  Kernel kernel;
  std::vector<Leaf> leaves;
  std::vector<Piece> pieces;
  std::vector<const void*> in;
  std::vector<void*> out;
  std::atomic<size_t> next{0}, done{0};
  std::mutex mutex;
  std::condition_variable all_done;

  void Help() {
    FlushedDenormals flushed;
    for (size_t at = next++; at < pieces.size(); at = next++) {
      const Piece& piece = pieces[at];
      kernel(leaves[piece.leaf], piece.first, piece.last);
      if (++done == pieces.size()) {
        std::lock_guard<std::mutex> lock(mutex);
        all_done.notify_all();
      }
    }
  }

  void Wait() {
    std::unique_lock<std::mutex> lock(mutex);
    all_done.wait(lock, [this] { return done == pieces.size(); });
  }
};

ffi::Error Step(ffi::ThreadPool pool, std::string_view name, ffi::Span<const int64_t> shapes, ffi::RemainingArgs args,
                ffi::RemainingRets rets) {
  int64_t known = 0;
  const Entry* entries = Entries(&known);
  const Entry* entry = std::find_if(entries, entries + known, [&](const Entry& e) { return name == e.name; });
  if (entry == entries + known) return ffi::Error::Internal("no kernel is called " + std::string(name));
  const int64_t count = int64_t(shapes.size()) / 4;
  const bool together = rets.size() == 1;  // one number for each tile of all leaves
  if (count < 1 || args.size() < 2 || (args.size() - 2) % count || (!together && rets.size() % count)) {
    return ffi::Error::InvalidArgument("operands of other leaves than were announced");
  }
  auto work = std::make_shared<Work>();
  work->kernel = entry->kernel;
  const auto fetch = [&](size_t place) { return args.get<ffi::AnyBuffer>(place).value(); };
  const auto uniforms = fetch(0), words = fetch(1);
  const auto sizes = words.dimensions();
  const int64_t each = sizes.size() == 0 || !sizes[0] ? 0 : int64_t(words.element_count()) / sizes[0];
  const size_t taken = (args.size() - 2) / count, given = together ? 0 : rets.size() / count;
  int64_t before = 0;
  work->in.reserve(args.size());
  work->out.reserve(rets.size());
  for (size_t place = 2; place < args.size(); ++place) work->in.push_back(fetch(place).untyped_data());
  for (size_t place = 0; place < rets.size(); ++place) {
    work->out.push_back(rets.get<ffi::AnyBuffer>(place).value()->untyped_data());
  }
  for (int64_t at = 0; at < count; ++at) {
    const Leaf leaf{work->in.data() + at * taken,
                    work->out.data() + at * given,
                    static_cast<const uint32_t*>(uniforms.untyped_data()),
                    static_cast<const uint32_t*>(words.untyped_data()) + shapes[4 * at + 3] * each,
                    shapes[4 * at],
                    shapes[4 * at + 1],
                    shapes[4 * at + 2],
                    before};
    work->leaves.push_back(leaf);
    if (leaf.rows < 1 || leaf.length < 1 || leaf.tile < 1) continue;
    const int64_t tiles = leaf.rows * PerRow(leaf);
    if (together) before += tiles;
    const int64_t step = std::max<int64_t>(1, kPiece / leaf.tile);
    for (int64_t first = 0; first < tiles; first += step) {
      work->pieces.push_back({int32_t(at), first, std::min(first + step, tiles)});
    }
  }
  if (work->pieces.empty()) return ffi::Error::Success();
  const size_t helpers = std::min<size_t>(work->pieces.size() / 2, size_t(std::max<int64_t>(pool.num_threads(), 1)) - 1);
  for (size_t helper = 0; helper < helpers; ++helper) pool.Schedule([work] { work->Help(); });
  work->Help();
  work->Wait();
  return ffi::Error::Success();
}

}  // namespace

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxopt_lectures_step, Step,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<std::string_view>("kernel")
                                  .Attr<ffi::Span<const int64_t>>("shapes")
                                  .RemainingArgs()
                                  .RemainingRets());
#pragma GCC visibility pop

// All names, one after the other, each ended by a line feed.
extern "C" __attribute__((visibility("default"))) const char* jaxopt_lectures_kernels() {
  static const std::string names = [] {
    int64_t known = 0;
    const Entry* entries = Entries(&known);
    std::string found;
    for (int64_t at = 0; at < known; ++at) found += std::string(entries[at].name) + "\n";
    return found;
  }();
  return names.c_str();
}
