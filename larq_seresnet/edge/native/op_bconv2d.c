/* LceBconv2d: a convolution of packed signs with packed filters.
 *
 * With +1 and -1 as bits, a product is an exclusive or and a sum a count of bits: for K factors,
 * sum = K - 2 * (number of bits that differ). What Larq Compute Engine fuses into the operator, an
 * activation and a batch normalization, is one multiplication and one addition afterwards, or, for
 * packed output, one comparison with a threshold. Operation by operation this follows its
 * arithmetic, so that results are equal to the last bit.
 *
 * The output's pixels are cut into blocks, which threads share. For each block the patches (the
 * input words under the filter) are copied next to each other, then multiplied with one tile of 16
 * output channels after the other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "flexbuffer.h"
#include "op.h"

enum { kInput, kFilter, kMultiplier, kBias, kThresholds };
enum { kActivationNone = 0, kActivationRelu = 1, kActivationRelu1 = 2, kActivationRelu6 = 3 };

/* Patches of a block stay in the first-level cache beside a tile of filters. */
enum { kBlockPixels = 32 };

typedef struct {
  /* From the options */
  int32_t channels_in, dilation_height, dilation_width, activation, pad_value, padding;
  int32_t stride_height, stride_width;

  /* From the tensors' shapes */
  int in_height, in_width, in_words; /* words of an input pixel */
  int filter_height, filter_width;
  int channels_out, groups;
  int group_words; /* words of an input pixel that one group of filters sees */
  int group_channels; /* output channels of a group */
  int group_tiles;
  EdgeWindow rows, columns;
  size_t patch_words;
  int depth; /* the output's last size */
  int output_type;
  bool zero_padding; /* padding with 0 rather than with +1 */

  /* Prepared once from the constants; padded to whole tiles. Group g's tile t comes at
   * (g * group_tiles + t). */
  uint32_t *filters; /* [tile][patch word][16] */
  float *multiplier, *bias;
  int32_t *thresholds;
  float *padding_scale; /* minus the file's multiplier, for zero padding */
  int32_t *tap_sums;    /* [filter position][tile][16]: sum of a filter's signs there */
  int32_t clamp_min, clamp_max;

  uint32_t *patches; /* [thread][kBlockPixels][patch word] */
  int patch_threads;
} State;

static void release_constants(State *state) {
  free(state->filters);
  free(state->multiplier);
  free(state->bias);
  free(state->thresholds);
  free(state->padding_scale);
  free(state->tap_sums);
  state->filters = NULL;
  state->multiplier = state->bias = state->padding_scale = NULL;
  state->thresholds = state->tap_sums = NULL;
}

static void release(void *raw) {
  State *state = raw;
  release_constants(state);
  free(state->patches);
}

static const char *parse(void *raw, const uint8_t *options, size_t size) {
  State *state = raw;
  if (!edge_flex_int32(options, size, "channels_in", &state->channels_in) ||
      !edge_flex_int32(options, size, "dilation_height_factor", &state->dilation_height) ||
      !edge_flex_int32(options, size, "dilation_width_factor", &state->dilation_width) ||
      !edge_flex_int32(options, size, "fused_activation_function", &state->activation) ||
      !edge_flex_int32(options, size, "pad_values", &state->pad_value) ||
      !edge_flex_int32(options, size, "padding", &state->padding) ||
      !edge_flex_int32(options, size, "stride_height", &state->stride_height) ||
      !edge_flex_int32(options, size, "stride_width", &state->stride_width))
    return "the options are malformed or incomplete";
  if (state->channels_in <= 0) return "channels_in is not positive";
  if (state->pad_value != 0 && state->pad_value != 1) return "pad_values is neither 0 nor 1";
  if (state->activation < kActivationNone || state->activation > kActivationRelu6)
    return "the fused activation function is unknown";
  state->zero_padding = state->padding == kEdgePaddingSame && state->pad_value == 0;
  if (state->zero_padding && state->activation != kActivationNone)
    return "an activation function cannot be fused with zero padding";
  return NULL;
}

/* Shapes and options against each other. */
static TfLiteStatus read_shapes(TfLiteContext *context, EdgeOp *op, const TfLiteTensor *input,
                                const TfLiteTensor *filter) {
  State *state = op->state;
  const int *in = input->dims->data, *f = filter->dims->data;
  state->in_height = in[1];
  state->in_width = in[2];
  state->in_words = in[3];
  state->channels_out = f[0];
  state->filter_height = f[1];
  state->filter_width = f[2];
  state->group_words = f[3];
  if (state->in_words != edge_words(state->channels_in))
    return edge_fail(context, op, "%d input channels do not fit an input of %d words",
                     state->channels_in, state->in_words);
  state->groups = state->in_words / state->group_words;
  if (state->groups < 1 || state->groups * state->group_words != state->in_words ||
      state->channels_out % state->groups ||
      (state->groups > 1 && state->channels_in % (32 * state->groups)))
    return edge_fail(context, op, "the filter's %d words do not divide the input's %d",
                     state->group_words, state->in_words);
  state->group_channels = state->channels_out / state->groups;
  state->group_tiles = (state->group_channels - 1) / kEdgeTile + 1;

  size_t words;
  if (__builtin_mul_overflow((size_t)state->filter_height, (size_t)state->filter_width, &words) ||
      __builtin_mul_overflow(words, (size_t)state->group_words, &words) ||
      words > INT32_MAX / 128) /* twice the number of bits fits into 32 bits */
    return edge_fail(context, op, "the filter is too large");
  state->patch_words = words;

  if (!edge_window(state->in_height, state->filter_height, state->stride_height,
                   state->dilation_height, state->padding, &state->rows) ||
      !edge_window(state->in_width, state->filter_width, state->stride_width,
                   state->dilation_width, state->padding, &state->columns))
    return edge_fail(context, op, "filter, stride, dilation or padding is out of range");
  return kTfLiteOk;
}

/* Where output channel `channel` stands among the padded tiles' lanes. */
static size_t lane_of(const State *state, int channel) {
  int group = channel / state->group_channels, within = channel % state->group_channels;
  return (size_t)group * (size_t)state->group_tiles * kEdgeTile + (size_t)within;
}

static size_t lane_count(const State *state) {
  return (size_t)state->groups * (size_t)state->group_tiles * kEdgeTile;
}

static TfLiteStatus pack_filters(TfLiteContext *context, EdgeOp *op, const uint32_t *words) {
  State *state = op->state;
  size_t lanes = lane_count(state), size;
  if (__builtin_mul_overflow(lanes, state->patch_words, &size) || size > SIZE_MAX / 64)
    return edge_fail(context, op, "the filter is too large");
  state->filters = calloc(size, sizeof *state->filters);
  if (!state->filters) return edge_fail(context, op, "out of memory");
  for (int channel = 0; channel < state->channels_out; channel++) {
    size_t lane = lane_of(state, channel);
    uint32_t *tile = state->filters + lane / kEdgeTile * kEdgeTile * state->patch_words;
    for (size_t k = 0; k < state->patch_words; k++)
      tile[k * kEdgeTile + lane % kEdgeTile] = *words++;
  }
  return kTfLiteOk;
}

/* Larq Compute Engine folds K - 2 * differing into the multiplier and the bias, in double
 * precision, and bounds for the activation into bounds of 2 * differing. */
static TfLiteStatus fold_transform(TfLiteContext *context, EdgeOp *op, const float *multiplier,
                                   const float *bias, const TfLiteTensor *output) {
  State *state = op->state;
  size_t lanes = lane_count(state);
  state->multiplier = calloc(lanes, sizeof(float));
  state->bias = calloc(lanes, sizeof(float));
  if (!state->multiplier || !state->bias) return edge_fail(context, op, "out of memory");

  int32_t factors = state->filter_height * state->filter_width *
                    (state->channels_in / state->groups);
  double scale = 1, zero_point = 0;
  if (output->type == kTfLiteInt8) {
    scale = (double)output->params.scale;
    zero_point = output->params.zero_point;
    if (!(scale > 0) || isinf(scale))
      return edge_fail(context, op, "the output's quantization scale is not a positive number");
  }
  for (int channel = 0; channel < state->channels_out; channel++) {
    size_t lane = lane_of(state, channel);
    double m = (double)multiplier[channel], b = (double)bias[channel];
    state->multiplier[lane] = (float)(-1 * m / scale);
    state->bias[lane] = (float)((b + (double)factors * m) / scale + zero_point);
  }
  int32_t low = -factors, high = factors;
  if (state->activation == kActivationRelu1) low = -1, high = 1;
  if (state->activation == kActivationRelu || state->activation == kActivationRelu6) low = 0;
  if (state->activation == kActivationRelu6) high = 6;
  if (high > factors) high = factors;
  if (low < -factors) low = -factors;
  state->clamp_min = factors - high;
  state->clamp_max = factors - low;
  return kTfLiteOk;
}

/* With zero padding, positions outside the image were counted as +1: what the filter's signs sum to
 * there is taken off again. */
static TfLiteStatus prepare_zero_padding(TfLiteContext *context, EdgeOp *op,
                                         const float *multiplier, const uint32_t *filter) {
  State *state = op->state;
  size_t lanes = lane_count(state);
  int taps = state->filter_height * state->filter_width;
  state->padding_scale = calloc(lanes, sizeof(float));
  state->tap_sums = calloc((size_t)taps * lanes, sizeof(int32_t));
  if (!state->padding_scale || !state->tap_sums) return edge_fail(context, op, "out of memory");
  for (int channel = 0; channel < state->channels_out; channel++) {
    size_t lane = lane_of(state, channel);
    state->padding_scale[lane] = -1.0f * multiplier[channel];
    for (int tap = 0; tap < taps; tap++) {
      int negative = 0;
      for (int w = 0; w < state->group_words; w++) negative += __builtin_popcount(*filter++);
      state->tap_sums[(size_t)tap * lanes + lane] =
          state->channels_in / state->groups - 2 * negative;
    }
  }
  return kTfLiteOk;
}

static TfLiteStatus read_constants(TfLiteContext *context, EdgeOp *op,
                                   const TfLiteTensor *filter, const TfLiteTensor *output) {
  State *state = op->state;
  if (pack_filters(context, op, filter->data.u32) != kTfLiteOk) return kTfLiteError;
  if (output->type == kTfLiteInt32) {
    const TfLiteTensor *thresholds =
        edge_constant_input(context, op, kThresholds, "thresholds", kTfLiteInt32, 1);
    if (!thresholds) return kTfLiteError;
    if (thresholds->dims->data[0] != state->channels_out)
      return edge_fail(context, op, "there are %d thresholds for %d channels",
                       thresholds->dims->data[0], state->channels_out);
    state->thresholds = malloc(lane_count(state) * sizeof *state->thresholds);
    if (!state->thresholds) return edge_fail(context, op, "out of memory");
    for (size_t lane = 0; lane < lane_count(state); lane++) state->thresholds[lane] = INT32_MAX;
    for (int channel = 0; channel < state->channels_out; channel++)
      state->thresholds[lane_of(state, channel)] = thresholds->data.i32[channel];
    return kTfLiteOk;
  }
  const TfLiteTensor *multiplier =
      edge_constant_input(context, op, kMultiplier, "multiplier", kTfLiteFloat32, 1);
  if (!multiplier) return kTfLiteError;
  const TfLiteTensor *bias = edge_constant_input(context, op, kBias, "bias", kTfLiteFloat32, 1);
  if (!bias) return kTfLiteError;
  if (multiplier->dims->data[0] != state->channels_out ||
      bias->dims->data[0] != state->channels_out)
    return edge_fail(context, op, "there are %d multipliers and %d biases for %d channels",
                     multiplier->dims->data[0], bias->dims->data[0], state->channels_out);
  if (fold_transform(context, op, multiplier->data.f, bias->data.f, output) != kTfLiteOk)
    return kTfLiteError;
  return state->zero_padding
             ? prepare_zero_padding(context, op, multiplier->data.f, filter->data.u32)
             : kTfLiteOk;
}

static TfLiteStatus prepare(TfLiteContext *context, EdgeOp *op) {
  State *state = op->state;
  const TfLiteTensor *input = edge_checked_input(context, op, kInput, "input", kTfLiteInt32, 4);
  if (!input) return kTfLiteError;
  const TfLiteTensor *filter =
      edge_constant_input(context, op, kFilter, "filter", kTfLiteInt32, 4);
  if (!filter) return kTfLiteError;
  const TfLiteTensor *output = edge_output(context, op);
  if (output->type != kTfLiteFloat32 && output->type != kTfLiteInt8 &&
      output->type != kTfLiteInt32)
    return edge_fail(context, op, "the output tensor has type %d, not float32, int8 or int32",
                     output->type);
  if (state->zero_padding && output->type != kTfLiteFloat32)
    return edge_fail(context, op, "zero padding needs float32 output");
  if (read_shapes(context, op, input, filter) != kTfLiteOk) return kTfLiteError;

  if (!state->filters || state->output_type != output->type) {
    release_constants(state);
    state->output_type = output->type;
    if (read_constants(context, op, filter, output) != kTfLiteOk) {
      release_constants(state);
      return kTfLiteError;
    }
  }
  int threads = edge_threads_count(op->threads);
  if (!state->patches || state->patch_threads != threads) {
    free(state->patches);
    state->patches = calloc((size_t)threads * kBlockPixels, state->patch_words * sizeof(uint32_t));
    state->patch_threads = threads;
    if (!state->patches) return edge_fail(context, op, "out of memory");
  }
  int depth = output->type == kTfLiteInt32 ? edge_words(state->channels_out)
                                           : state->channels_out;
  state->depth = depth;
  int sizes[] = {input->dims->data[0], state->rows.output, state->columns.output, depth};
  return edge_resize_output(context, op, 4, sizes);
}

typedef struct {
  const State *state;
  const EdgeKernels *kernels;
  const uint32_t *input;
  TfLiteTensor *output;
  size_t pixels;
  int block_pixels;
} Work;

/* An output pixel, and the input position of its window's first tap. */
typedef struct {
  int batch, y, x;
  int64_t top, left;
} Place;

static inline void find_window(const State *state, Place *place) {
  place->top = (int64_t)place->y * state->stride_height - state->rows.pad_before;
  place->left = (int64_t)place->x * state->stride_width - state->columns.pad_before;
}

static Place place_of(const State *state, size_t pixel) {
  size_t width = (size_t)state->columns.output, height = (size_t)state->rows.output;
  size_t row = pixel / width;
  Place place = {
      .batch = (int)(row / height), .y = (int)(row % height), .x = (int)(pixel % width)};
  find_window(state, &place);
  return place;
}

/* The neighbour in the output's order, without place_of's divisions. */
static inline void step(const State *state, Place *place) {
  if (++place->x == state->columns.output) {
    place->x = 0;
    if (++place->y == state->rows.output) {
      place->y = 0;
      place->batch++;
    }
  }
  find_window(state, place);
}

static inline bool row_inside(const State *state, int64_t y) {
  return y >= 0 && y < state->in_height;
}

static inline bool column_inside(const State *state, int64_t x) {
  return x >= 0 && x < state->in_width;
}

/* Whether a window lies within the image, along one axis. */
static inline bool window_inside(int64_t first, int filter, int dilation, int size) {
  return first >= 0 && first + (int64_t)(filter - 1) * dilation < size;
}

/* Compilers would turn these loops into calls of memcpy, which for the usual handful of words takes
 * longer than the copy itself; an empty statement that they cannot look into keeps the loops. */
static inline void copy_words(uint32_t *target, const uint32_t *source, int count) {
  for (; count >= 2; count -= 2, target += 2, source += 2) {
    uint64_t two;
    memcpy(&two, source, sizeof two);
    memcpy(target, &two, sizeof two);
    __asm__ volatile("");
  }
  if (count) *target = *source;
}

static inline void clear_words(uint32_t *target, int count) {
  for (; count > 0; count--) {
    *target++ = 0;
    __asm__ volatile("");
  }
}

/* Copies the words of one group under the window; outside the image they are 0, that is +1. */
static inline void copy_patch(const State *state, const uint32_t *input, Place place, int group,
                       uint32_t *patch) {
  const uint32_t *image = input + (size_t)place.batch * (size_t)state->in_height *
                                      (size_t)state->in_width * (size_t)state->in_words;
  bool whole_rows = state->groups == 1 && state->dilation_width == 1 &&
                    window_inside(place.left, state->filter_width, 1, state->in_width);
  int words = state->group_words, row_words = words * state->filter_width;
  for (int fy = 0; fy < state->filter_height; fy++) {
    int64_t y = place.top + (int64_t)fy * state->dilation_height;
    if (!row_inside(state, y)) {
      clear_words(patch, row_words);
      patch += row_words;
      continue;
    }
    const uint32_t *row = image + (size_t)y * (size_t)state->in_width * (size_t)state->in_words;
    if (whole_rows) { /* the taps of a row lie next to each other in the input, too */
      copy_words(patch, row + place.left * state->in_words, row_words);
      patch += row_words;
      continue;
    }
    for (int fx = 0; fx < state->filter_width; fx++, patch += words) {
      int64_t x = place.left + (int64_t)fx * state->dilation_width;
      if (column_inside(state, x))
        copy_words(patch, row + x * state->in_words + group * words, words);
      else
        clear_words(patch, words);
    }
  }
}

/* Whether the whole window of a pixel lies within the image. */
static inline bool all_inside(const State *state, Place place) {
  return window_inside(place.top, state->filter_height, state->dilation_height,
                       state->in_height) &&
         window_inside(place.left, state->filter_width, state->dilation_width, state->in_width);
}

/* Takes off what the taps outside the image contributed to a tile of channels. */
static void correct_zero_padding(const State *state, Place place, size_t lane, int channels,
                                 float *output) {
  int32_t sums[kEdgeTile] = {0};
  size_t lanes = lane_count(state);
  const int32_t *tap_sums = state->tap_sums + lane;
  for (int fy = 0; fy < state->filter_height; fy++) {
    bool row = row_inside(state, place.top + (int64_t)fy * state->dilation_height);
    for (int fx = 0; fx < state->filter_width; fx++, tap_sums += lanes) {
      if (row && column_inside(state, place.left + (int64_t)fx * state->dilation_width)) continue;
      for (int c = 0; c < kEdgeTile; c++) sums[c] += tap_sums[c];
    }
  }
  for (int c = 0; c < channels; c++)
    output[c] += state->padding_scale[lane + (size_t)c] * (float)sums[c];
}

/* Sets bits from bit `first` on, in a row of words that starts out clear. */
static void set_bits(uint32_t *words, size_t first, uint32_t bits) {
  words[first / 32] |= bits << (first % 32);
  if (first % 32 > 32 - kEdgeTile && bits >> (32 - first % 32))
    words[first / 32 + 1] |= bits >> (32 - first % 32);
}

/* Writes one tile of output channels of a few neighbouring pixels. */
static void write_tile(const Work *work, int32_t (*sums)[kEdgeTile], size_t pixel, int pixels,
                       int group, int tile) {
  const State *state = work->state;
  size_t lane = ((size_t)group * (size_t)state->group_tiles + (size_t)tile) * kEdgeTile;
  size_t channel = (size_t)group * (size_t)state->group_channels + (size_t)tile * kEdgeTile;
  int channels = state->group_channels - tile * kEdgeTile;
  if (channels > kEdgeTile) channels = kEdgeTile;
  size_t depth = (size_t)state->channels_out;
  EdgeTransform transform = {.clamp_min = state->clamp_min, .clamp_max = state->clamp_max};

  if (state->output_type == kTfLiteInt32) {
    uint32_t bits[kEdgeMaxPixels];
    size_t words = (size_t)edge_words(state->channels_out);
    transform.thresholds = state->thresholds + lane;
    work->kernels->to_bits(sums, pixels, &transform, bits);
    for (int p = 0; p < pixels; p++)
      set_bits(work->output->data.u32 + (pixel + (size_t)p) * words, channel, bits[p]);
    return;
  }
  transform.multiplier = state->multiplier + lane;
  transform.bias = state->bias + lane;
  if (state->output_type == kTfLiteInt8) {
    work->kernels->to_int8(sums, pixels, channels, &transform,
                           work->output->data.int8 + pixel * depth + channel, depth);
    return;
  }
  work->kernels->to_float(sums, pixels, channels, &transform,
                          work->output->data.f + pixel * depth + channel, depth);
}

/* The pixels of a block whose window sticks out of the image. */
static void correct_block(const Work *work, size_t first, int pixels) {
  const State *state = work->state;
  Place place = place_of(state, first);
  for (int p = 0; p < pixels; p++, step(state, &place)) {
    if (all_inside(state, place)) continue;
    float *output = work->output->data.f + (first + (size_t)p) * (size_t)state->channels_out;
    for (int tile = 0; tile < state->groups * state->group_tiles; tile++) {
      int within = tile % state->group_tiles * kEdgeTile;
      int channels = state->group_channels - within;
      if (channels > kEdgeTile) channels = kEdgeTile;
      correct_zero_padding(state, place, (size_t)tile * kEdgeTile, channels, output);
      output += channels;
    }
  }
}

static void convolve_block(void *argument, int worker, int block) {
  const Work *work = argument;
  const State *state = work->state;
  size_t first = (size_t)block * (size_t)work->block_pixels, left = work->pixels - first;
  int pixels = left < (size_t)work->block_pixels ? (int)left : work->block_pixels;
  if (state->output_type == kTfLiteInt32) {
    size_t words = (size_t)edge_words(state->channels_out);
    memset(work->output->data.u32 + first * words, 0, (size_t)pixels * words * sizeof(uint32_t));
  }
  /* A 1x1 filter's patches are the input itself. */
  bool copy = state->filter_height != 1 || state->filter_width != 1 || state->groups != 1 ||
              state->stride_height != 1 || state->stride_width != 1;
  for (int group = 0; group < state->groups; group++) {
    const uint32_t *patches = work->input + first * (size_t)state->in_words;
    if (copy) {
      uint32_t *copies = state->patches + (size_t)worker * kBlockPixels * state->patch_words;
      Place place = place_of(state, first);
      for (int p = 0; p < pixels; p++, step(state, &place))
        copy_patch(state, work->input, place, group, copies + (size_t)p * state->patch_words);
      patches = copies;
    }
    for (int tile = 0; tile < state->group_tiles; tile++) {
      size_t tile_index = (size_t)group * (size_t)state->group_tiles + (size_t)tile;
      const uint32_t *filters = state->filters + tile_index * kEdgeTile * state->patch_words;
      for (int p = 0; p < pixels; p += work->kernels->pixels) {
        int count = pixels - p < work->kernels->pixels ? pixels - p : work->kernels->pixels;
        int32_t sums[kEdgeMaxPixels][kEdgeTile];
        work->kernels->accumulate(patches + (size_t)p * state->patch_words, filters,
                                  state->patch_words, count, sums);
        write_tile(work, sums, first + (size_t)p, count, group, tile);
      }
    }
  }
  if (state->zero_padding) correct_block(work, first, pixels);
}

/* As large as the cache allows, but with a few blocks for each thread. */
static int choose_block_pixels(size_t pixels, int threads) {
  int size = kBlockPixels;
  while (size > 8 && pixels / (size_t)size < (size_t)threads * 4) size /= 2;
  return size;
}

static TfLiteStatus invoke(TfLiteContext *context, EdgeOp *op) {
  const State *state = op->state;
  const TfLiteTensor *input = edge_input(context, op, kInput);
  TfLiteTensor *output = edge_output(context, op);
  const int *in = input->dims->data, *out = output->dims->data;
  if (input->dims->size != 4 || output->dims->size != 4 || !edge_has_data(input, 4) ||
      !edge_has_data(output, state->output_type == kTfLiteInt8 ? 1 : 4) || in[0] != out[0] ||
      in[1] != state->in_height || in[2] != state->in_width || in[3] != state->in_words ||
      out[1] != state->rows.output || out[2] != state->columns.output ||
      output->type != state->output_type || out[3] != state->depth)
    return edge_fail(context, op, "a tensor's memory or shape changed");

  Work work = {.state = state,
               .kernels = op->kernels,
               .input = input->data.u32,
               .output = output,
               .pixels = (size_t)out[0] * (size_t)out[1] * (size_t)out[2]};
  double compared = (double)work.pixels * (double)state->patch_words * state->channels_out;
  int threads = edge_threads_count(op->threads);
  bool alone = threads == 1 || compared < 2 * op->kernels->grain;
  work.block_pixels = alone ? kBlockPixels : choose_block_pixels(work.pixels, threads);
  size_t blocks = (work.pixels - 1) / (size_t)work.block_pixels + 1;
  if (blocks > INT32_MAX) return edge_fail(context, op, "the output is too large");
  if (alone)
    for (size_t block = 0; block < blocks; block++) convolve_block(&work, 0, (int)block);
  else
    edge_threads_run(op->threads, convolve_block, &work, (int)blocks);
  return kTfLiteOk;
}

const EdgeOpType edge_bconv2d = {.name = "LceBconv2d",
                                 .inputs = 5,
                                 .state_size = sizeof(State),
                                 .parse = parse,
                                 .prepare = prepare,
                                 .invoke = invoke,
                                 .release = release};
