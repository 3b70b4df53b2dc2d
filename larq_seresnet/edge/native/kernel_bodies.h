/* What the instruction sets share: plain C over the 16 lanes of a tile, which compilers vectorize.
 * Each kernel file inlines it into functions that it compiles for its own instruction set. */
#ifndef LARQ_SERESNET_KERNEL_BODIES_H_
#define LARQ_SERESNET_KERNEL_BODIES_H_

#include <stdbool.h>
#include <string.h>

#include "kernels.h"

#define EDGE_INLINE static inline __attribute__((always_inline))

/* The product and the sum are rounded one after the other (the library is compiled without
 * contraction), as in Larq Compute Engine: results are equal to the last bit. */
EDGE_INLINE float edge_affine(int32_t sum, int lane, const EdgeTransform *transform) {
  int32_t twice = sum * 2;
  twice = twice > transform->clamp_max ? transform->clamp_max : twice;
  twice = twice < transform->clamp_min ? transform->clamp_min : twice;
  return (float)twice * transform->multiplier[lane] + transform->bias[lane];
}

/* The lanes are written to `row` first, whose size is known: the loop needs no remainder. */
EDGE_INLINE void edge_to_float_body(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                                    const EdgeTransform *transform, float *output,
                                    size_t stride) {
  for (int p = 0; p < pixels; p++, output += stride) {
    float row[kEdgeTile];
    for (int c = 0; c < kEdgeTile; c++) row[c] = edge_affine(sums[p][c], c, transform);
    if (channels == kEdgeTile)
      memcpy(output, row, sizeof row);
    else
      memcpy(output, row, (size_t)channels * sizeof *row);
  }
}

EDGE_INLINE int8_t edge_round_to_int8(float value) {
  /* Limits first: converting a number that int cannot hold, or a NaN, is undefined. */
  value = value > -129.0f ? value : -129.0f;
  value = value < 128.0f ? value : 128.0f;
  int32_t whole = (int32_t)value;
  float rest = value - (float)whole;
  whole += (rest >= 0.5f) - (rest <= -0.5f);
  whole = whole > 127 ? 127 : whole;
  return (int8_t)(whole < -128 ? -128 : whole);
}

EDGE_INLINE void edge_to_int8_body(int32_t (*sums)[kEdgeTile], int pixels, int channels,
                                   const EdgeTransform *transform, int8_t *output, size_t stride) {
  for (int p = 0; p < pixels; p++, output += stride) {
    int8_t row[kEdgeTile];
    for (int c = 0; c < kEdgeTile; c++)
      row[c] = edge_round_to_int8(edge_affine(sums[p][c], c, transform));
    memcpy(output, row, (size_t)channels);
  }
}

EDGE_INLINE void edge_to_bits_body(int32_t (*sums)[kEdgeTile], int pixels,
                                   const EdgeTransform *transform, uint32_t *bits) {
  for (int p = 0; p < pixels; p++) {
    uint32_t word = 0;
    for (int c = 0; c < kEdgeTile; c++)
      word |= (uint32_t)(sums[p][c] > transform->thresholds[c]) << c;
    bits[p] = word;
  }
}

enum { kPartNorm = 1, kPartGate = 2, kPartResidual = 4 };

/* One tile of channels of all pixels. `parts` and, but for the last tile, `channels` are constants,
 * so that what is the same for all pixels stays in registers. */
EDGE_INLINE void edge_finish_tile(const float *x, const float *residual, size_t pixels,
                                  size_t stride, const size_t channels, const int parts,
                                  const EdgeFinish *finish, size_t first, float *output) {
  float shift[kEdgeTile], scale[kEdgeTile], gate[kEdgeTile];
  const float low = finish->low;
  for (size_t c = 0; c < channels; c++) {
    /* x + -0 and x * 1 are x. */
    shift[c] = finish->shift ? finish->shift[first + c] : -0.0f;
    scale[c] = finish->scale ? finish->scale[first + c] : 1.0f;
    gate[c] = finish->gate ? finish->gate[first + c] : 1.0f;
  }
  for (size_t p = 0, i = first; p < pixels; p++, i += stride) {
    float row[kEdgeTile];
    for (size_t c = 0; c < channels; c++) {
      float value = x[i + c];
      if (parts & kPartNorm) value = (value + shift[c]) * scale[c];
      if (parts & kPartGate) value *= gate[c];
      if (parts & kPartResidual) value += residual[i + c];
      row[c] = value < low ? low : value;
    }
    memcpy(output + i, row, channels * sizeof *row);
  }
}

EDGE_INLINE void edge_finish_parts(const float *x, const float *residual, size_t pixels,
                                   size_t channels, const EdgeFinish *finish, const int parts,
                                   float *output) {
  size_t first = 0;
  for (; channels - first >= kEdgeTile; first += kEdgeTile)
    edge_finish_tile(x, residual, pixels, channels, kEdgeTile, parts, finish, first, output);
  if (first < channels)
    edge_finish_tile(x, residual, pixels, channels, channels - first, parts, finish, first, output);
}

EDGE_INLINE void edge_finish_body(const float *x, const float *residual, size_t pixels,
                                  size_t channels, const EdgeFinish *finish, float *output) {
  bool norm = finish->shift || finish->scale;
  if (norm && !finish->gate && residual)
    edge_finish_parts(x, residual, pixels, channels, finish, kPartNorm | kPartResidual, output);
  else if (norm && !finish->gate)
    edge_finish_parts(x, residual, pixels, channels, finish, kPartNorm, output);
  else if (!norm && finish->gate && residual)
    edge_finish_parts(x, residual, pixels, channels, finish, kPartGate | kPartResidual, output);
  else if (residual)
    edge_finish_parts(x, residual, pixels, channels, finish, kPartNorm | kPartGate | kPartResidual,
                      output);
  else
    edge_finish_parts(x, residual, pixels, channels, finish, kPartNorm | kPartGate, output);
}

enum { kMeanParts = 4 }; /* sums that do not wait for each other */

EDGE_INLINE void edge_mean_tile(const float *x, size_t pixels, size_t stride,
                                const size_t channels, float *output) {
  float sums[kMeanParts][kEdgeTile] = {{0}};
  size_t p = 0;
  for (; p + kMeanParts <= pixels; p += kMeanParts)
    for (size_t part = 0; part < kMeanParts; part++, x += stride)
      for (size_t c = 0; c < channels; c++) sums[part][c] += x[c];
  for (; p < pixels; p++, x += stride)
    for (size_t c = 0; c < channels; c++) sums[0][c] += x[c];
  for (size_t c = 0; c < channels; c++)
    output[c] = ((sums[0][c] + sums[1][c]) + (sums[2][c] + sums[3][c])) / (float)pixels;
}

EDGE_INLINE void edge_mean_body(const float *x, size_t pixels, size_t channels, float *output) {
  size_t first = 0;
  for (; channels - first >= kEdgeTile; first += kEdgeTile)
    edge_mean_tile(x + first, pixels, channels, kEdgeTile, output + first);
  if (first < channels)
    edge_mean_tile(x + first, pixels, channels, channels - first, output + first);
}

/* Expands to a call of accumulate_pixels with a constant number of pixels, so that the compiler
 * keeps all sums in registers. */
#define EDGE_DISPATCH_PIXELS(accumulate_pixels, input, windows, filters, pixels, sums) \
  switch (pixels) {                                                                    \
    case 8: accumulate_pixels(input, windows, filters, 8, sums); break;                \
    case 7: accumulate_pixels(input, windows, filters, 7, sums); break;                \
    case 6: accumulate_pixels(input, windows, filters, 6, sums); break;                \
    case 5: accumulate_pixels(input, windows, filters, 5, sums); break;                \
    case 4: accumulate_pixels(input, windows, filters, 4, sums); break;                \
    case 3: accumulate_pixels(input, windows, filters, 3, sums); break;                \
    case 2: accumulate_pixels(input, windows, filters, 2, sums); break;                \
    default: accumulate_pixels(input, windows, filters, 1, sums); break;               \
  }

#endif /* LARQ_SERESNET_KERNEL_BODIES_H_ */
