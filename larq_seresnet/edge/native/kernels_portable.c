/* Plain C, for CPUs without the instruction sets of the other files. */
#define EDGE_TARGET
#define EDGE_LANES 4
#define EDGE_MIN(a, b) ((((a) < (b)) & (a)) | (~((a) < (b)) & (b)))
#define EDGE_MAX(a, b) ((((a) > (b)) & (a)) | (~((a) > (b)) & (b)))
#include "kernel_bodies.h"

/* Arithmetic rather than __builtin_popcount, so that compilers vectorize the loop over the lanes on
 * CPUs that have no instruction for it either. */
EDGE_INLINE int32_t count_bits(uint32_t bits) {
  bits -= bits >> 1 & 0x55555555;
  bits = (bits & 0x33333333) + (bits >> 2 & 0x33333333);
  bits = (bits + (bits >> 4)) & 0x0f0f0f0f;
  bits += bits >> 8;
  return (int32_t)((bits + (bits >> 16)) & 0x3f);
}

static void accumulate(const uint32_t *input, const EdgeWindows *windows, const uint32_t *filters,
                       int pixels, int32_t (*sums)[kEdgeTile]) {
  for (int p = 0; p < pixels; p++, input += windows->step) {
    const uint32_t *filter = filters;
    memset(sums[p], 0, sizeof sums[p]);
    for (size_t run = 0; run < windows->runs; run++)
      for (size_t k = 0; k < windows->length; k++, filter += kEdgeTile)
        for (int c = 0; c < kEdgeTile; c++)
          sums[p][c] += count_bits(input[windows->offsets[run] + k] ^ filter[c]);
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
  edge_to_bits_body(sums, pixels, transform, bits);
}

static void pack_float(const float *values, size_t count, uint32_t *words) {
  for (; count; count -= 32, values += 32) {
    uint32_t word = 0;
    for (int i = 0; i < 32; i++) word |= (uint32_t)(values[i] < 0) << i;
    *words++ = word;
  }
}

static void pack_int8(const int8_t *values, size_t count, int8_t zero_point, uint32_t *words) {
  for (; count; count -= 32, values += 32) {
    uint32_t word = 0;
    for (int i = 0; i < 32; i++) word |= (uint32_t)(values[i] < zero_point) << i;
    *words++ = word;
  }
}

static void finish(const float *x, const float *residual, size_t pixels, size_t channels,
                   const EdgeFinish *steps, float *output) {
  edge_finish_body(x, residual, pixels, channels, steps, output);
}

static void mean(const float *x, size_t pixels, size_t channels, float *output) {
  edge_mean_body(x, pixels, channels, output);
}

const EdgeKernels edge_kernels_portable = {
    .name = "portable",
    .pixels = 1,
    .grain = 1 << 14,
    .accumulate = accumulate,
    .to_float = to_float,
    .to_int8 = to_int8,
    .to_bits = to_bits,
    .pack_float = pack_float,
    .pack_int8 = pack_int8,
    .finish = finish,
    .mean = mean,
};
