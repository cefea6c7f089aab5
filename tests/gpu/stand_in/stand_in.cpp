// A GPU made of fibers: every thread of every warp is one, and a scheduler runs any that can go on,
// in an order that a seed decides. It is compiled without sanitizers, beside a kernel with or
// without one.
//
// ThreadSanitizer learns of every switch from fiber to fiber that it orders nothing. Shuffles and
// matrix products order nothing either, as on a GPU: a barrier alone does. So what it reports is
// what no barrier orders, in whatever order the fibers happened to run.
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#ifdef THREAD_SANITIZER
extern "C" {
void* __tsan_create_fiber(unsigned);
void* __tsan_get_current_fiber();
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#else
static void* __tsan_create_fiber(unsigned) { return nullptr; }
static void* __tsan_get_current_fiber() { return nullptr; }
static void __tsan_switch_to_fiber(void*, unsigned) {}
static void __tsan_destroy_fiber(void*) {}
static void __tsan_acquire(void*) {}
static void __tsan_release(void*) {}
#endif

namespace {

constexpr int LANES = 32, STACK_BYTES = 1 << 17;
constexpr unsigned NO_ORDER = 1;

struct Fiber;

// Threads that wait for each other at the same operation.
struct Meeting {
  int size = 0, arrived = 0, generation = 0;
  const char* operation = nullptr;
  std::vector<Fiber*> waiting;
  char order[2];
  void resize(int threads) { size = threads, waiting.resize(threads); }
};

struct Block {
  long long number;
  Meeting all;
  std::unique_ptr<char[]> shared;
};

struct Warp {
  Block* block;
  Meeting all, quads[LANES / 4];
  Fiber* lanes[LANES];
};

struct Fiber {
  ucontext_t context;
  jmp_buf jump;
  bool is_running = false;
  void* tsan;
  Warp* warp;
  int thread, lane;  // of the block, of the warp
  std::unique_ptr<char[]> stack;
  char value[8], found[8];  // of a shuffle
  int from;
  float sums[4];  // of a product
  unsigned a[4], b[2];
};

struct Machine {
  ucontext_t context;
  void* tsan;
  Fiber* now;
  std::vector<Fiber*> ready;
  int running;
  std::mt19937 random;
  void (*kernel)(void*);
  void* task;
  char end;
} machine;

[[noreturn]] void fail(const char* problem, const char* detail) {
  fprintf(stderr, "stand-in: %s %s\n", problem, detail);
  _Exit(3);
}

void run_another() {
  Fiber* own = machine.now;
  if (machine.ready.empty()) fail("deadlock:", "all threads wait");
  std::swap(machine.ready[machine.random() % machine.ready.size()], machine.ready.back());
  machine.now = machine.ready.back();
  machine.ready.pop_back();
  if (machine.now == own) return;
  __tsan_switch_to_fiber(machine.now->tsan, NO_ORDER);
#ifdef SANITIZER
  swapcontext(&own->context, &machine.now->context);
#else  // the same without the kernel, which swapcontext asks for the signal mask
  if (_setjmp(own->jump)) return;
  if (machine.now->is_running) _longjmp(machine.now->jump, 1);
  machine.now->is_running = true;
  setcontext(&machine.now->context);
#endif
}

// Waits until all threads of the meeting are here; the last one does the work.
template <class Work>
void meet(Meeting& meeting, const char* operation, bool orders, Work work) {
  if (meeting.arrived && meeting.operation != operation) fail("divergence:", operation);
  char* order = &meeting.order[meeting.generation % 2];
  if (orders) __tsan_release(order);
  meeting.operation = operation;
  if (++meeting.arrived == meeting.size) {
    work();
    for (int i = 0; i < meeting.size - 1; i++) machine.ready.push_back(meeting.waiting[i]);
    meeting.arrived = 0;
    meeting.generation++;
    machine.ready.push_back(machine.now);
  } else {
    meeting.waiting[meeting.arrived - 1] = machine.now;
  }
  run_another();
  if (orders) __tsan_acquire(order);
}

float wide(unsigned two, int half) {
  const unsigned bits = half ? two & 0xffff0000u : two << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

float toward_zero(double x) {  // as tensor cores round
  const float y = (float)x;
  return std::fabs((double)y) > std::fabs(x) ? std::nextafterf(y, 0.0f) : y;
}

// Which thread has which number: "Matrix Fragments for mma.m16n8k16" and "m16n8k8", PTX ISA.
void multiply(Warp& warp, bool is_tf32) {
  for (Fiber* fiber : warp.lanes)
    for (int e = 0; e < 4; e++) {
      const int row = fiber->lane / 4 + 8 * (e / 2), column = fiber->lane % 4 * 2 + e % 2;
      double sum = fiber->sums[e];
      for (int k = 0; k < (is_tf32 ? 8 : 16); k++) {
        const int tid = is_tf32 ? k % 4 : k % 8 / 2, high = is_tf32 ? k / 4 : k / 8;
        const unsigned a = warp.lanes[row % 8 * 4 + tid]->a[row / 8 + 2 * high];
        const unsigned b = warp.lanes[column * 4 + tid]->b[high];
        float x, y;
        if (is_tf32) {
          memcpy(&x, &a, 4);
          memcpy(&y, &b, 4);
          if ((a | b) & 0x1fff && x == x && y == y) fail("operand:", "not a TF32 number");
        } else {
          x = wide(a, k % 2), y = wide(b, k % 2);
        }
        sum += (double)x * y;
      }
      fiber->sums[e] = toward_zero(sum);
    }
}

void enter() {
  machine.kernel(machine.task);
  __tsan_release(&machine.end);
  if (--machine.running) run_another();
  __tsan_switch_to_fiber(machine.tsan, NO_ORDER);
  setcontext(&machine.context);
}

}  // namespace

extern "C" {

int stand_in_thread() { return machine.now->thread; }
long long stand_in_block() { return machine.now->warp->block->number; }
void* stand_in_shared_memory() { return machine.now->warp->block->shared.get(); }
void stand_in_sync_warp() {
  meet(machine.now->warp->all, "a barrier", true, [] {});
}
void stand_in_sync_block() {
  meet(machine.now->warp->block->all, "a barrier of the block", true, [] {});
}

void stand_in_of_quad(void* value, int bytes, int from) {
  Fiber* own = machine.now;
  memcpy(own->value, value, bytes);
  own->from = from;
  meet(own->warp->quads[own->lane / 4], "a shuffle", false, [own] {
    for (int i = own->lane / 4 * 4; i < own->lane / 4 * 4 + 4; i++) {
      Fiber* lane = own->warp->lanes[i];
      memcpy(lane->found, own->warp->lanes[i / 4 * 4 + lane->from]->value, 8);
    }
  });
  memcpy(value, own->found, bytes);
}

void stand_in_mma(float* sums, const unsigned* a, unsigned b0, unsigned b1, int is_tf32) {
  Fiber* own = machine.now;
  memcpy(own->sums, sums, sizeof own->sums);
  memcpy(own->a, a, sizeof own->a);
  own->b[0] = b0, own->b[1] = b1;
  meet(own->warp->all, "a product", false, [=] { multiply(*own->warp, is_tf32); });
  memcpy(sums, own->sums, sizeof own->sums);
}

// Runs a kernel of `blocks` blocks of `threads` threads, whole warps, all at once.
void stand_in_run(void (*kernel)(void*), void* task, long long blocks, long long threads,
                  long long shared_bytes, unsigned seed) {
  machine.kernel = kernel;
  machine.task = task;
  machine.random.seed(seed);
  machine.tsan = __tsan_get_current_fiber();
  machine.running = (int)(blocks * threads);
  machine.ready.reserve(machine.running);  // what allocates while fibers run, the sanitizer sees
  std::vector<Block> all(blocks);
  std::vector<Warp> warps(blocks * threads / LANES);
  std::vector<std::unique_ptr<Fiber>> fibers;
  for (long long number = 0; number < blocks; number++) {
    Block& block = all[number];
    block.number = number;
    block.all.resize((int)threads);
    block.shared.reset(new char[shared_bytes]);
    memset(block.shared.get(), 0xff, shared_bytes);  // NaN: nobody has written it
  }
  for (size_t number = 0; number < warps.size(); number++) {
    Warp& warp = warps[number];
    const int first = (int)(number * LANES % threads);
    warp.block = &all[number * LANES / threads];
    warp.all.resize(LANES);
    for (Meeting& quad : warp.quads) quad.resize(4);
    for (int lane = 0; lane < LANES; lane++) {
      auto fiber = std::make_unique<Fiber>();
      fiber->warp = &warp, fiber->thread = first + lane, fiber->lane = lane;
      fiber->stack.reset(new char[STACK_BYTES]);
      fiber->tsan = __tsan_create_fiber(0);
      getcontext(&fiber->context);
      fiber->context.uc_stack.ss_sp = fiber->stack.get();
      fiber->context.uc_stack.ss_size = STACK_BYTES;
      fiber->context.uc_link = nullptr;
      makecontext(&fiber->context, enter, 0);
      warp.lanes[lane] = fiber.get();
      machine.ready.push_back(fiber.get());
      fibers.push_back(std::move(fiber));
    }
  }
  std::swap(machine.ready[machine.random() % machine.ready.size()], machine.ready.back());
  machine.now = machine.ready.back();
  machine.ready.pop_back();
  machine.now->is_running = true;
  __tsan_switch_to_fiber(machine.now->tsan, NO_ORDER);
  swapcontext(&machine.context, &machine.now->context);
  __tsan_acquire(&machine.end);
  for (auto& fiber : fibers) __tsan_destroy_fiber(fiber->tsan);
}
}
