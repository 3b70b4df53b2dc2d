#include "kernels.h"

#include <stdbool.h>
#include <string.h>

/* Fastest first. */
static const EdgeKernels *const all_kernels[] = {
#if defined(__x86_64__)
    &edge_kernels_avx512,
    &edge_kernels_avx2,
#elif defined(__aarch64__)
    &edge_kernels_neon,
#endif
    &edge_kernels_portable,
};

static bool cpu_runs(const EdgeKernels *kernels) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (kernels == &edge_kernels_avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vpopcntdq");
  if (kernels == &edge_kernels_avx2) return __builtin_cpu_supports("avx2");
#endif
  (void)kernels; /* every aarch64 CPU has NEON */
  return true;
}

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
