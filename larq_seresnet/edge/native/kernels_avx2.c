/* AVX2: a tile is two registers. There is no instruction that counts bits, so each half byte is
 * looked up in a table of 16 counts, and counts are summed as bytes as long as those cannot
 * overflow. */
#if defined(__x86_64__)
#include <immintrin.h>

#define EDGE_TARGET __attribute__((target("avx2")))
#define EDGE_LANES 8
#define EDGE_MIN(a, b) ((EdgeIntegers) _mm256_min_epi32((__m256i)(a), (__m256i)(b)))
#define EDGE_MAX(a, b) ((EdgeIntegers) _mm256_max_epi32((__m256i)(a), (__m256i)(b)))
#include "kernel_bodies.h"

enum { kPixels = 4, kWordsPerBlock = 31 }; /* 31 words of at most 8 bits a byte: 248 */

EDGE_INLINE __m256i count_bytes(__m256i bits) {
  const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                          2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(0x0f);
  __m256i low = _mm256_and_si256(bits, nibble);
  __m256i high = _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble);
  return _mm256_add_epi8(_mm256_shuffle_epi8(counts, low), _mm256_shuffle_epi8(counts, high));
}

/* Sums the four bytes of each 32-bit lane. */
EDGE_INLINE __m256i add_bytes(__m256i bytes) {
  __m256i pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* Adds the counts to the sums, or begins these with them. */
EDGE_INLINE void empty_bytes(__m256i (*bytes)[2], const int pixels, bool add,
                                    int32_t (*sums)[kEdgeTile]) {
  for (int p = 0; p < pixels; p++)
    for (int half = 0; half < 2; half++) {
      __m256i *sum = (__m256i *)sums[p] + half;
      __m256i total = add_bytes(bytes[p][half]);
      if (add) total = _mm256_add_epi32(total, _mm256_loadu_si256(sum));
      _mm256_storeu_si256(sum, total);
      bytes[p][half] = _mm256_setzero_si256();
    }
}

EDGE_INLINE void accumulate_pixels(const uint32_t *input, const EdgeWindows *windows,
                                          const uint32_t *filters, const int pixels,
                                          int32_t (*sums)[kEdgeTile]) {
  const size_t step = windows->step;
  size_t room = kWordsPerBlock; /* words until the bytes must be emptied */
  bool add = false;
  __m256i bytes[kPixels][2];
  for (int p = 0; p < pixels; p++)
    for (int half = 0; half < 2; half++) bytes[p][half] = _mm256_setzero_si256();
  for (size_t run = 0; run < windows->runs; run++) {
    const uint32_t *word = input + windows->offsets[run];
    for (size_t left = windows->length; left;) {
      size_t count = left < room ? left : room;
      left -= count;
      room -= count;
      for (; count; count--, word++, filters += kEdgeTile)
        for (int half = 0; half < 2; half++) {
          __m256i filter = _mm256_loadu_si256((const __m256i *)filters + half);
          for (int p = 0; p < pixels; p++) {
            __m256i other = _mm256_set1_epi32((int)word[(size_t)p * step]);
            __m256i counts = count_bytes(_mm256_xor_si256(filter, other));
            bytes[p][half] = _mm256_add_epi8(bytes[p][half], counts);
          }
        }
      if (room) continue;
      empty_bytes(bytes, pixels, add, sums);
      room = kWordsPerBlock;
      add = true;
    }
  }
  empty_bytes(bytes, pixels, add, sums);
}

EDGE_TARGET static void accumulate(const uint32_t *input, const EdgeWindows *windows,
                              const uint32_t *filters, int pixels, int32_t (*sums)[kEdgeTile]) {
  switch (pixels) {
    case 4: accumulate_pixels(input, windows, filters, 4, sums); break;
    case 3: accumulate_pixels(input, windows, filters, 3, sums); break;
    case 2: accumulate_pixels(input, windows, filters, 2, sums); break;
    default: accumulate_pixels(input, windows, filters, 1, sums); break;
  }
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
  for (int p = 0; p < pixels; p++) {
    uint32_t word = 0;
    for (int half = 0; half < 2; half++) {
      __m256i sum = _mm256_loadu_si256((const __m256i *)sums[p] + half);
      __m256i threshold = _mm256_loadu_si256((const __m256i *)transform->thresholds + half);
      __m256 above = _mm256_castsi256_ps(_mm256_cmpgt_epi32(sum, threshold));
      word |= (uint32_t)_mm256_movemask_ps(above) << (8 * half);
    }
    bits[p] = word;
  }
}

EDGE_TARGET static void pack_float(const float *values, size_t count, uint32_t *words) {
  for (; count; count -= 32) {
    uint32_t word = 0;
    for (int i = 0; i < 32; i += 8, values += 8) {
      __m256 negative = _mm256_cmp_ps(_mm256_loadu_ps(values), _mm256_setzero_ps(), _CMP_LT_OQ);
      word |= (uint32_t)_mm256_movemask_ps(negative) << i;
    }
    *words++ = word;
  }
}

EDGE_TARGET static void pack_int8(const int8_t *values, size_t count, int8_t zero_point,
                             uint32_t *words) {
  const __m256i zero = _mm256_set1_epi8(zero_point);
  for (; count; count -= 32, values += 32) {
    __m256i below = _mm256_cmpgt_epi8(zero, _mm256_loadu_si256((const __m256i *)values));
    *words++ = (uint32_t)_mm256_movemask_epi8(below);
  }
}

EDGE_TARGET static void finish(const float *x, const float *residual, size_t pixels, size_t channels,
                   const EdgeFinish *steps, float *output) {
  edge_finish_body(x, residual, pixels, channels, steps, output);
}

EDGE_TARGET static void mean(const float *x, size_t pixels, size_t channels, float *output) {
  edge_mean_body(x, pixels, channels, output);
}

const EdgeKernels edge_kernels_avx2 = {
    .name = "avx2",
    .pixels = kPixels,
    .grain = 1 << 17,
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
