/* LceBconv2d: a convolution of packed signs with packed filters.
 *
 * With +1 and -1 as bits, a product is an exclusive or and a sum a count of bits: for K factors,
 * sum = K - 2 * (number of bits that differ). What Larq Compute Engine fuses into the operator, an
 * activation and a batch normalization, is one multiplication and one addition afterwards, or, for
 * packed output, one comparison with a threshold. Operation by operation this follows its
 * arithmetic, so that results are equal to the last bit.
 *
 * The input is copied into a padded one, so that all windows lie within it and differ only in where
 * they begin. The output's pixels are cut into blocks, which threads share; a block is multiplied
 * with one tile of 16 output channels after the other. What follows the convolution (tail.h) is
 * done block by block.
 *
 * Of at most 16 channels, a word of the input has room for two pixels: with the pixel below in its
 * upper half, a window of three rows takes two words a column in place of three. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "flexbuffer.h"
#include "op.h"

enum { kInput, kFilter, kMultiplier, kBias, kThresholds };
enum { kActivationNone = 0, kActivationRelu = 1, kActivationRelu1 = 2, kActivationRelu6 = 3 };

/* Words of a padded input beyond a few times the input's own: windows that reach far out of the
 * image, which only a hostile file has. */
enum { kPaddingWords = 1 << 24 };

/* What a block makes stays in the first-level cache until its tail is done. */
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
  bool paired; /* two rows of pixels to a word */
  bool whole_rows; /* a row of a window's words is one run */
  int padded_height, padded_width;
  size_t images, plane; /* words of a padded image; with the paired ones behind it twice */
  size_t window_words, runs;
  int depth; /* the output's last size */
  int output_type;
  bool zero_padding; /* padding with 0 rather than with +1 */

  /* Prepared once from the constants; padded to whole tiles. Group g's tile t comes at
   * (g * group_tiles + t). */
  uint32_t *filters; /* [tile][window word][16] */
  float *multiplier, *bias;
  int32_t *thresholds;
  float *padding_scale; /* minus the file's multiplier, for zero padding */
  int32_t *tap_sums;    /* [filter position][tile][16]: sum of a filter's signs there */
  int32_t clamp_min, clamp_max;

  size_t *offsets; /* of a window's runs; see EdgeWindows */
  uint32_t *padded; /* NULL where the input needs no padding; [image][plane] */
  size_t padded_words;
} State;

static void release_constants(State *state) {
  free(state->filters);
  free(state->multiplier);
  free(state->bias);
  free(state->thresholds);
  free(state->padding_scale);
  free(state->tap_sums);
  free(state->offsets);
  state->filters = NULL;
  state->offsets = NULL;
  state->multiplier = state->bias = state->padding_scale = NULL;
  state->thresholds = state->tap_sums = NULL;
}

static void release(void *raw) {
  State *state = raw;
  release_constants(state);
  free(state->padded);
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
  state->paired = state->channels_in <= 16 && state->filter_height > 1 &&
                  state->dilation_height == 1;
  size_t rows = (size_t)(state->filter_height + state->paired) >> state->paired;
  state->window_words = words / (size_t)state->filter_height * rows;

  if (!edge_window(state->in_height, state->filter_height, state->stride_height,
                   state->dilation_height, state->padding, &state->rows) ||
      !edge_window(state->in_width, state->filter_width, state->stride_width,
                   state->dilation_width, state->padding, &state->columns))
    return edge_fail(context, op, "filter, stride, dilation or padding is out of range");

  /* The taps of a row that lie side by side are one run. */
  state->whole_rows = state->groups == 1 && state->dilation_width == 1;
  state->runs = state->whole_rows ? rows : rows * (size_t)state->filter_width;

  int64_t height = (int64_t)(state->rows.output - 1) * state->stride_height +
                   (int64_t)(state->filter_height - 1) * state->dilation_height + 1;
  int64_t width = (int64_t)(state->columns.output - 1) * state->stride_width +
                  (int64_t)(state->filter_width - 1) * state->dilation_width + 1;
  bool fits = height <= state->in_height && width <= state->in_width &&
              !state->rows.pad_before && !state->columns.pad_before;
  if (fits) height = state->in_height, width = state->in_width;
  state->images = (size_t)in[0];
  size_t input_words = input->bytes / sizeof(uint32_t);
  if (height > INT32_MAX || width > INT32_MAX ||
      __builtin_mul_overflow((size_t)height, (size_t)width, &words) ||
      __builtin_mul_overflow(words, (size_t)state->in_words, &state->plane) ||
      __builtin_mul_overflow(state->plane, state->images * (1 + (size_t)state->paired), &words) ||
      words > SIZE_MAX / 32 || (!fits && words / 8 > kPaddingWords / 8 + input_words))
    return edge_fail(context, op, "the padded input is too large");
  state->padded_height = (int)height;
  state->padded_width = (int)width;
  /* Zeros once: only what is not padding is written later. */
  free(state->padded);
  state->padded = NULL;
  state->padded_words = fits && !state->paired ? 0 : words;
  if (state->padded_words) {
    state->padded = calloc(words, sizeof *state->padded);
    if (!state->padded) return edge_fail(context, op, "out of memory");
  }
  return kTfLiteOk;
}

/* Where a window's runs begin. A paired window's last row, if it has no partner, lies in the plain
 * image, the others in the paired one behind it. */
static TfLiteStatus find_offsets(TfLiteContext *context, EdgeOp *op) {
  State *state = op->state;
  free(state->offsets);
  state->offsets = calloc(state->runs, sizeof *state->offsets);
  if (!state->offsets) return edge_fail(context, op, "out of memory");
  size_t row_words = (size_t)state->padded_width * (size_t)state->in_words;
  size_t *offset = state->offsets;
  int step = 1 + state->paired;
  for (int fy = 0; fy < state->filter_height; fy += step) {
    size_t row = (size_t)fy * (size_t)state->dilation_height * row_words;
    if (state->paired && fy + 1 < state->filter_height) row += state->plane;
    for (int fx = 0; fx < state->filter_width && (!fx || !state->whole_rows); fx++)
      *offset++ = row + (size_t)fx * (size_t)state->dilation_width * (size_t)state->in_words;
  }
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
  if (__builtin_mul_overflow(lanes, state->window_words, &size) || size > SIZE_MAX / 64)
    return edge_fail(context, op, "the filter is too large");
  state->filters = calloc(size, sizeof *state->filters);
  if (!state->filters) return edge_fail(context, op, "out of memory");
  size_t row_words = (size_t)state->filter_width * (size_t)state->group_words;
  for (int channel = 0; channel < state->channels_out; channel++) {
    size_t lane = lane_of(state, channel);
    uint32_t *tile = state->filters + lane / kEdgeTile * kEdgeTile * state->window_words;
    tile += lane % kEdgeTile;
    for (int fy = 0; fy < state->filter_height; fy++, words += row_words)
      for (size_t k = 0; k < row_words; k++) {
        uint32_t *target = tile + ((size_t)(fy >> state->paired) * row_words + k) * kEdgeTile;
        *target |= state->paired ? (words[k] & 0xffff) << 16 * (fy & 1) : words[k];
      }
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
  if (((State *)op->state)->output_type == kTfLiteInt8) {
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
  if (state->output_type == kTfLiteInt32) {
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
  /* A tail's output may be signs only; what it works on is float. */
  int type = op->type->has_tail ? kTfLiteFloat32 : output->type;
  if (type != kTfLiteFloat32 && type != kTfLiteInt8 && type != kTfLiteInt32)
    return edge_fail(context, op, "the output tensor has type %d, not float32, int8 or int32", type);
  if (state->zero_padding && type != kTfLiteFloat32)
    return edge_fail(context, op, "zero padding needs float32 output");
  if (read_shapes(context, op, input, filter) != kTfLiteOk) return kTfLiteError;

  if (!state->filters || state->output_type != type) {
    release_constants(state);
    state->output_type = type;
    if (read_constants(context, op, filter, output) != kTfLiteOk) {
      release_constants(state);
      return kTfLiteError;
    }
  }
  if (find_offsets(context, op) != kTfLiteOk) return kTfLiteError;
  int depth = type == kTfLiteInt32 ? edge_words(state->channels_out) : state->channels_out;
  state->depth = depth;
  int sizes[] = {input->dims->data[0], state->rows.output, state->columns.output, depth};
  return op->type->has_tail ? edge_tail_prepare(context, op, 4, sizes, kBlockPixels)
                            : edge_resize_output(context, op, 4, sizes);
}

typedef struct {
  const State *state;
  const EdgeKernels *kernels;
  const uint32_t *input; /* with the padding */
  size_t image_words;
  TfLiteTensor *output;
  const EdgeTailRun *tail; /* NULL where there is none */
  const float *shift, *scale, *residual; /* the tail's part that is done in registers */
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

/* Goes `count` pixels on within a row, or to the start of the next, without place_of's divisions. */
static inline void move(const State *state, Place *place, int count) {
  place->x += count;
  if (place->x == state->columns.output) {
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

/* Copies the image into the middle of zeros, which stand for +1; then, in pairs, each row with the
 * next one in the upper halves of its words. */
static void pad_image(const State *state, const uint32_t *image, uint32_t *padded) {
  size_t row = (size_t)state->in_width * (size_t)state->in_words;
  size_t padded_row = (size_t)state->padded_width * (size_t)state->in_words;
  size_t before = (size_t)state->columns.pad_before * (size_t)state->in_words;
  size_t count = before + row < padded_row ? row : before < padded_row ? padded_row - before : 0;
  for (int y = 0; y < state->in_height && y + state->rows.pad_before < state->padded_height; y++)
    memcpy(padded + (size_t)(y + state->rows.pad_before) * padded_row + before,
           image + (size_t)y * row, count * sizeof *image);
  if (!state->paired) return;
  uint32_t *pairs = padded + state->plane;
  for (size_t i = 0; i + padded_row < state->plane; i++)
    pairs[i] = padded[i] | padded[i + padded_row] << 16;
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

/* A tile of output channels: the first one, how many, and what becomes of their sums. */
typedef struct {
  size_t channel;
  int channels;
  EdgeTransform transform;
} Tile;

static Tile tile_of(const Work *work, int index) {
  const State *state = work->state;
  int group = index / state->group_tiles, within = index % state->group_tiles * kEdgeTile;
  size_t lane = (size_t)index * kEdgeTile;
  size_t channel = (size_t)(group * state->group_channels + within);
  int channels = state->group_channels - within;
  Tile tile = {.channel = channel,
               .channels = channels > kEdgeTile ? kEdgeTile : channels,
               .transform = {.clamp_min = state->clamp_min, .clamp_max = state->clamp_max}};
  if (state->thresholds) tile.transform.thresholds = state->thresholds + lane;
  if (state->multiplier) tile.transform.multiplier = state->multiplier + lane;
  if (state->bias) tile.transform.bias = state->bias + lane;
  if (work->shift) tile.transform.shift = work->shift + channel;
  if (work->scale) tile.transform.scale = work->scale + channel;
  return tile;
}

/* Writes a tile of a few neighbouring pixels as signs or int8. */
static void write_small(const Work *work, const Tile *tile, int32_t (*sums)[kEdgeTile],
                        size_t pixel, int pixels) {
  const State *state = work->state;
  size_t depth = (size_t)state->depth;
  if (state->output_type == kTfLiteInt8) {
    work->kernels->to_int8(sums, pixels, tile->channels, &tile->transform,
                           work->output->data.int8 + pixel * depth + tile->channel, depth);
    return;
  }
  uint32_t bits[kEdgeMaxPixels];
  work->kernels->to_bits(sums, pixels, &tile->transform, bits);
  for (int p = 0; p < pixels; p++)
    set_bits(work->output->data.u32 + (pixel + (size_t)p) * depth, tile->channel, bits[p]);
}

/* The pixels of a block whose window sticks out of the image. */
static void correct_block(const Work *work, size_t first, int pixels, float *floats) {
  const State *state = work->state;
  Place place = place_of(state, first);
  for (int p = 0; p < pixels; p++, move(state, &place, 1)) {
    if (all_inside(state, place)) continue;
    float *output = floats + (size_t)p * (size_t)state->channels_out;
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
  float *floats = NULL;
  if (state->output_type == kTfLiteFloat32)
    floats = work->tail ? edge_tail_target(work->tail, worker, first)
                        : work->output->data.f + first * (size_t)state->channels_out;

  const size_t words = (size_t)state->in_words;
  EdgeWindows windows = {.runs = state->runs,
                         .length = state->window_words / state->runs,
                         .step = (size_t)state->stride_width * words,
                         .offsets = state->offsets};
  const size_t depth = (size_t)state->depth;
  for (int index = 0; index < state->groups * state->group_tiles; index++) {
    const Tile tile = tile_of(work, index);
    const uint32_t *filters = state->filters + (size_t)index * kEdgeTile * state->window_words;
    const uint32_t *input =
        work->input + (size_t)(index / state->group_tiles * state->group_words);
    float *target = floats ? floats + tile.channel : NULL;
    const float *residual =
        work->residual ? work->residual + first * depth + tile.channel : NULL;
    Place place = place_of(state, first);
    for (int p = 0, row_end; p < pixels; p = row_end) { /* the pixels of a row of the output */
      row_end = p + state->columns.output - place.x;
      if (row_end > pixels) row_end = pixels;
      size_t row = (size_t)place.y * (size_t)state->stride_height;
      const uint32_t *window = input + (size_t)place.batch * work->image_words +
                               row * (size_t)state->padded_width * words +
                               (size_t)place.x * windows.step;
      move(state, &place, row_end - p);
      for (int count; p < row_end; p += count) {
        count = row_end - p < work->kernels->pixels ? row_end - p : work->kernels->pixels;
        int32_t sums[kEdgeMaxPixels][kEdgeTile];
        work->kernels->accumulate(window, &windows, filters, count, sums);
        window += (size_t)count * windows.step;
        if (!target) {
          write_small(work, &tile, sums, first + (size_t)p, count);
          continue;
        }
        work->kernels->to_float(sums, count, tile.channels, &tile.transform, residual, target,
                                depth);
        target += (size_t)count * depth;
        if (residual) residual += (size_t)count * depth;
      }
    }
  }
  if (state->zero_padding) correct_block(work, first, pixels, floats);
  if (work->tail) edge_tail_apply(work->tail, worker, floats, first, (size_t)pixels);
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
  if (input->dims->size != 4 || !edge_has_data(input, 4) ||
      (size_t)in[0] != state->images || in[1] != state->in_height || in[2] != state->in_width ||
      in[3] != state->in_words)
    return edge_fail(context, op, "a tensor's memory or shape changed");
  EdgeTailRun tail;
  const int sizes[] = {in[0], state->rows.output, state->columns.output, state->depth};
  if (op->type->has_tail) {
    if (edge_tail_bind(context, op, 4, sizes, &tail) != kTfLiteOk) return kTfLiteError;
  } else if (output->dims->size != 4 || memcmp(out, sizes, sizeof sizes) ||
             output->type != state->output_type ||
             !edge_has_data(output, state->output_type == kTfLiteInt8 ? 1 : 4)) {
    return edge_fail(context, op, "a tensor's memory or shape changed");
  }

  Work work = {.state = state,
               .kernels = op->kernels,
               .input = input->data.u32,
               .image_words = state->plane * (1 + (size_t)state->paired),
               .output = output,
               .tail = op->type->has_tail ? &tail : NULL,
               .pixels = (size_t)sizes[0] * (size_t)sizes[1] * (size_t)sizes[2]};
  /* Before the gate comes, and where the sums need no correction. */
  if (work.tail && !tail.gate && !state->zero_padding) {
    work.shift = tail.finish.shift;
    work.scale = tail.finish.scale;
    work.residual = tail.residual;
    tail.finish.shift = tail.finish.scale = tail.residual = NULL;
    tail.flags &= (uint8_t)~(kEdgeTailShift | kEdgeTailScale | kEdgeTailResidual);
  }
  if (state->padded) {
    size_t image = (size_t)state->in_height * (size_t)state->in_width * (size_t)state->in_words;
    for (size_t i = 0; i < state->images; i++)
      pad_image(state, input->data.u32 + i * image, state->padded + i * work.image_words);
    work.input = state->padded;
  }
  double compared = (double)work.pixels * (double)state->window_words * state->channels_out;
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

const EdgeOpType edge_fused_bconv2d = {.name = "EdgeBconv2d",
                                       .inputs = 5,
                                       .has_tail = true,
                                       .state_size = sizeof(State),
                                       .parse = parse,
                                       .prepare = prepare,
                                       .invoke = invoke,
                                       .release = release};
