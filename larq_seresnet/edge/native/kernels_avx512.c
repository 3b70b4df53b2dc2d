/* AVX-512 with VPOPCNTDQ (Ice Lake, Zen 4 and newer): a tile is one register, and counting the bits
 * of its 16 words is one instruction. */
#if defined(__x86_64__)
#include <immintrin.h>

#define EDGE_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq")))
#define EDGE_LANES 16
#define EDGE_MIN(a, b) ((EdgeIntegers) _mm512_min_epi32((__m512i)(a), (__m512i)(b)))
#define EDGE_MAX(a, b) ((EdgeIntegers) _mm512_max_epi32((__m512i)(a), (__m512i)(b)))
#include "kernel_bodies.h"

EDGE_INLINE void accumulate_pixels(const uint32_t *input, const EdgeWindows *windows,
                                          const uint32_t *filters, const int pixels,
                                          int32_t (*sums)[kEdgeTile]) {
  const size_t step = windows->step, length = windows->length;
  __m512i total[kEdgeMaxPixels];
  for (int p = 0; p < pixels; p++) total[p] = _mm512_setzero_si512();
  for (size_t run = 0; run < windows->runs; run++) {
    const uint32_t *word = input + windows->offsets[run];
    for (const uint32_t *end = word + length; word < end; word++, filters += kEdgeTile) {
      __m512i filter = _mm512_loadu_si512(filters);
      for (int p = 0; p < pixels; p++) {
        __m512i other = _mm512_set1_epi32((int)word[(size_t)p * step]);
        __m512i differing = _mm512_popcnt_epi32(_mm512_xor_si512(filter, other));
        total[p] = _mm512_add_epi32(total[p], differing);
      }
    }
  }
  for (int p = 0; p < pixels; p++) _mm512_storeu_si512(sums[p], total[p]);
}

EDGE_TARGET static void accumulate(const uint32_t *input, const EdgeWindows *windows,
                              const uint32_t *filters, int pixels, int32_t (*sums)[kEdgeTile]) {
  EDGE_DISPATCH_PIXELS(accumulate_pixels, input, windows, filters, pixels, sums)
}

EDGE_TARGET static void to_float(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                     const EdgeTransform *transform, const float *residual, float *output,
                     size_t stride) {
  edge_to_float_body(sums, pixels, channels, transform, residual, output, stride);
}

EDGE_TARGET static void to_int8(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                           const EdgeTransform *transform, int8_t *output, size_t stride) {
  edge_to_int8_body(sums, pixels, channels, transform, output, stride);
}

EDGE_TARGET static void to_bits(int32_t (*sums)[kEdgeTile], int pixels, const EdgeTransform *transform,
                           uint32_t *bits) {
  const __m512i thresholds = _mm512_loadu_si512(transform->thresholds);
  for (int p = 0; p < pixels; p++)
    bits[p] = _mm512_cmpgt_epi32_mask(_mm512_loadu_si512(sums[p]), thresholds);
}

EDGE_TARGET static void pack_float(const float *values, size_t count, uint32_t *words) {
  const __m512 zero = _mm512_setzero_ps();
  for (; count; count -= 32, values += 32) {
    uint32_t low = _mm512_cmp_ps_mask(_mm512_loadu_ps(values), zero, _CMP_LT_OQ);
    uint32_t high = _mm512_cmp_ps_mask(_mm512_loadu_ps(values + 16), zero, _CMP_LT_OQ);
    *words++ = low | high << 16;
  }
}

EDGE_TARGET static void pack_int8(const int8_t *values, size_t count, int8_t zero_point,
                             uint32_t *words) {
  const __m256i zero = _mm256_set1_epi8(zero_point);
  for (; count; count -= 32, values += 32)
    *words++ = _mm256_cmplt_epi8_mask(_mm256_loadu_si256((const __m256i *)values), zero);
}

EDGE_TARGET static void finish(const float *x, const float *residual, size_t pixels, size_t channels,
                   const EdgeFinish *steps, float *output) {
  edge_finish_body(x, residual, pixels, channels, steps, output);
}

EDGE_TARGET static void mean(const float *x, size_t pixels, size_t channels, float *output) {
  edge_mean_body(x, pixels, channels, output);
}

const EdgeKernels edge_kernels_avx512 = {
    .name = "avx512",
    .pixels = 8,
    .grain = 1 << 18,
    .accumulate = accumulate,
    .to_float = to_float,
    .to_int8 = to_int8,
    .to_bits = to_bits,
    .pack_float = pack_float,
    .pack_int8 = pack_int8,
    .finish = finish,
    .mean = mean,
};
#endif
