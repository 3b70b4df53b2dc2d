/* NEON: a tile is four registers. CNT counts the bits of bytes, and the counts are summed as bytes as
 * long as those cannot overflow. */
#if defined(__ARM_NEON)
#include <arm_neon.h>

#define EDGE_TARGET
#define EDGE_LANES 4
#define EDGE_MIN(a, b) ((EdgeIntegers) vminq_s32((int32x4_t)(a), (int32x4_t)(b)))
#define EDGE_MAX(a, b) ((EdgeIntegers) vmaxq_s32((int32x4_t)(a), (int32x4_t)(b)))
#include "kernel_bodies.h"

enum { kWordsPerBlock = 31 }; /* of at most 8 bits a byte: 248 */

#if defined(__aarch64__)
enum { kPixels = 4 };

EDGE_INLINE uint32x4_t negative_words(const float *values) {
  return vcltzq_f32(vld1q_f32(values));
}
#else /* 32 bits: half as many registers, and without some of the instructions */
enum { kPixels = 2 };

/* Compared as floats, the smallest numbers would count as 0. From above -0 to -infinity, without
 * the NaNs behind it. */
EDGE_INLINE uint32x4_t negative_words(const float *values) {
  uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(values));
  return vcleq_u32(vsubq_u32(bits, vdupq_n_u32(0x80000001)), vdupq_n_u32(0x7f7fffff));
}

EDGE_INLINE uint32_t vaddvq_u32(uint32x4_t a) {
  uint32x2_t pairs = vpadd_u32(vget_low_u32(a), vget_high_u32(a));
  return vget_lane_u32(vpadd_u32(pairs, pairs), 0);
}

EDGE_INLINE uint8x16_t vpaddq_u8(uint8x16_t a, uint8x16_t b) {
  return vcombine_u8(vpadd_u8(vget_low_u8(a), vget_high_u8(a)),
                     vpadd_u8(vget_low_u8(b), vget_high_u8(b)));
}

EDGE_INLINE uint8x16_t vuzp1q_u8(uint8x16_t a, uint8x16_t b) { return vuzpq_u8(a, b).val[0]; }
EDGE_INLINE uint16x8_t vuzp1q_u16(uint16x8_t a, uint16x8_t b) { return vuzpq_u16(a, b).val[0]; }
#endif

/* Adds the counts to the sums, or begins these with them. */
EDGE_INLINE void empty_bytes(uint8x16_t (*bytes)[4], const int pixels, bool add,
                             int32_t (*sums)[kEdgeTile]) {
  for (int p = 0; p < pixels; p++)
    for (int q = 0; q < 4; q++) {
      uint32x4_t total = vpaddlq_u16(vpaddlq_u8(bytes[p][q]));
      uint32_t *sum = (uint32_t *)&sums[p][4 * q];
      if (add) total = vaddq_u32(total, vld1q_u32(sum));
      vst1q_u32(sum, total);
      bytes[p][q] = vdupq_n_u8(0);
    }
}

EDGE_INLINE void accumulate_pixels(const uint32_t *input, const EdgeWindows *windows,
                                   const uint32_t *filters, const int pixels,
                                   int32_t (*sums)[kEdgeTile]) {
  const size_t step = windows->step;
  size_t room = kWordsPerBlock; /* words until the bytes must be emptied */
  bool add = false;
  uint8x16_t bytes[4][4]; /* of at most 4 pixels */
  for (int p = 0; p < pixels; p++)
    for (int q = 0; q < 4; q++) bytes[p][q] = vdupq_n_u8(0);
  for (size_t run = 0; run < windows->runs; run++) {
    const uint32_t *word = input + windows->offsets[run];
    for (size_t left = windows->length; left;) {
      size_t count = left < room ? left : room;
      left -= count;
      room -= count;
      for (; count; count--, word++, filters += kEdgeTile) {
        uint8x16_t quarter[4];
        for (int q = 0; q < 4; q++) quarter[q] = vreinterpretq_u8_u32(vld1q_u32(filters + 4 * q));
        for (int p = 0; p < pixels; p++) {
          uint8x16_t other = vreinterpretq_u8_u32(vld1q_dup_u32(word + (size_t)p * step));
          for (int q = 0; q < 4; q++)
            bytes[p][q] = vaddq_u8(bytes[p][q], vcntq_u8(veorq_u8(quarter[q], other)));
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

static void accumulate(const uint32_t *input, const EdgeWindows *windows, const uint32_t *filters,
                       int pixels, int32_t (*sums)[kEdgeTile]) {
  switch (pixels) {
    case 4: accumulate_pixels(input, windows, filters, 4, sums); break;
    case 3: accumulate_pixels(input, windows, filters, 3, sums); break;
    case 2: accumulate_pixels(input, windows, filters, 2, sums); break;
    default: accumulate_pixels(input, windows, filters, 1, sums); break;
  }
}

static void to_float(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                     const EdgeTransform *transform, const float *residual, float *output,
                     size_t stride) {
  edge_to_float_body(sums, pixels, channels, transform, residual, output, stride);
}

static void to_int8(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                    const EdgeTransform *transform, int8_t *output, size_t stride) {
  edge_to_int8_body(sums, pixels, channels, transform, output, stride);
}

static void to_bits(int32_t (*sums)[kEdgeTile], int pixels, const EdgeTransform *transform,
                    uint32_t *bits) {
  static const uint32_t lane_bit[4] = {1, 2, 4, 8};
  const uint32x4_t weights = vld1q_u32(lane_bit);
  for (int p = 0; p < pixels; p++) {
    uint32_t word = 0;
    for (int q = 0; q < 4; q++) {
      uint32x4_t above = vcgtq_s32(vld1q_s32(&sums[p][4 * q]),
                                   vld1q_s32(transform->thresholds + 4 * q));
      word |= vaddvq_u32(vandq_u32(above, weights)) << (4 * q);
    }
    bits[p] = word;
  }
}

/* Two words from 64 bytes that are all ones or all zeros: each byte keeps the bit of its place in a
 * group of eight, and three rounds of pairwise sums put the groups together. */
EDGE_INLINE uint64_t pack_bytes(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d) {
  const uint8x16_t place = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
  uint8x16_t ab = vpaddq_u8(vandq_u8(a, place), vandq_u8(b, place));
  uint8x16_t cd = vpaddq_u8(vandq_u8(c, place), vandq_u8(d, place));
  uint8x16_t all = vpaddq_u8(ab, cd);
  return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(all, all)), 0);
}

EDGE_INLINE uint8x16_t negative_bytes(const float *values) {
  uint16x8_t low = vuzp1q_u16(vreinterpretq_u16_u32(negative_words(values)),
                              vreinterpretq_u16_u32(negative_words(values + 4)));
  uint16x8_t high = vuzp1q_u16(vreinterpretq_u16_u32(negative_words(values + 8)),
                               vreinterpretq_u16_u32(negative_words(values + 12)));
  return vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
}

static void pack_float(const float *values, size_t count, uint32_t *words) {
  for (; count >= 64; count -= 64, values += 64, words += 2) {
    uint64_t bits = pack_bytes(negative_bytes(values), negative_bytes(values + 16),
                               negative_bytes(values + 32), negative_bytes(values + 48));
    memcpy(words, &bits, sizeof bits);
  }
  if (count) {
    const uint8x16_t none = vdupq_n_u8(0);
    *words = (uint32_t)pack_bytes(negative_bytes(values), negative_bytes(values + 16), none, none);
  }
}

EDGE_INLINE uint8x16_t below(const int8_t *values, int8x16_t zero) {
  return vcltq_s8(vld1q_s8(values), zero);
}

static void pack_int8(const int8_t *values, size_t count, int8_t zero_point, uint32_t *words) {
  const int8x16_t zero = vdupq_n_s8(zero_point);
  const uint8x16_t none = vdupq_n_u8(0);
  for (; count; count -= 32, values += 32)
    *words++ = (uint32_t)pack_bytes(below(values, zero), below(values + 16, zero), none, none);
}

static void finish(const float *x, const float *residual, size_t pixels, size_t channels,
                   const EdgeFinish *steps, float *output) {
  edge_finish_body(x, residual, pixels, channels, steps, output);
}

static void mean(const float *x, size_t pixels, size_t channels, float *output) {
  edge_mean_body(x, pixels, channels, output);
}

const EdgeKernels edge_kernels_neon = {
    .name = "neon",
    .pixels = kPixels,
    .grain = 1 << 15,
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
