#include "kernels.h"

#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* Fastest first. */
static const EdgeKernels *const all_kernels[] = {
#if defined(__x86_64__)
    &edge_kernels_avx512,
    &edge_kernels_avx2,
#elif defined(__ARM_NEON)
    &edge_kernels_neon,
#endif
    &edge_kernels_portable,
};

#if defined(__x86_64__)
/* Asks the CPU itself: with zig 0.17, __builtin_cpu_supports is always 0. */
static bool cpu_runs(const EdgeKernels *kernels) {
  enum { kAvxState = 0x06, kAvx512State = 0xe6 }; /* the registers that the system saves */
  const unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
  if (kernels == &edge_kernels_portable) return true;
  unsigned a, b, c, d, state;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
  __asm__("xgetbv" : "=a"(state), "=d"(d) : "c"(0));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if (kernels == &edge_kernels_avx512)
    return (state & kAvx512State) == kAvx512State && (b & avx512) == avx512 &&
           (c & bit_AVX512VPOPCNTDQ);
  return (state & kAvxState) == kAvxState && (b & bit_AVX2);
}
#else
/* NEON is there wherever it was compiled for. */
static bool cpu_runs(const EdgeKernels *kernels) {
  (void)kernels;
  return true;
}
#endif

const EdgeKernels *edge_kernels_by_name(const char *name) {
  for (size_t i = 0; i < sizeof all_kernels / sizeof *all_kernels; i++)
    if (!strcmp(all_kernels[i]->name, name) && cpu_runs(all_kernels[i])) return all_kernels[i];
  return NULL;
}

const EdgeKernels *edge_best_kernels(void) {
  size_t i = 0;
  while (!cpu_runs(all_kernels[i])) i++; /* the portable ones always run */
  return all_kernels[i];
}
