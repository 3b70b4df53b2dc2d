/* LceDequantize: unpacks bits to +1 and -1, as float or int8.
 *
 * A constant input gives a constant output: it is unpacked once, while tensors are allocated. That
 * is how packed weights of layers with float activations reach their convolution. */
#include "op.h"

#include <math.h>
#include <string.h>

typedef struct {
  bool constant;
} State;

static TfLiteStatus unpack(TfLiteContext *context, EdgeOp *op) {
  const TfLiteTensor *input = edge_input(context, op, 0);
  TfLiteTensor *output = edge_output(context, op);
  bool is_float = output->type == kTfLiteFloat32;
  if (!edge_has_data(input, 4) || !edge_has_data(output, is_float ? 4 : 1))
    return edge_fail(context, op, "a tensor's memory is smaller than its shape");
  int rank = output->dims->size;
  size_t channels = (size_t)output->dims->data[rank - 1];
  size_t row_words = (size_t)edge_words((int)channels), rows = 1;
  for (int i = 0; i < rank - 1; i++) rows *= (size_t)output->dims->data[i];
  if (input->bytes / 4 < rows * row_words)
    return edge_fail(context, op, "the input is smaller than the output needs");

  const uint32_t *words = input->data.u32;
  if (is_float) {
    float *values = output->data.f;
    for (size_t row = 0; row < rows; row++, words += row_words, values += channels)
      for (size_t c = 0; c < channels; c++)
        values[c] = words[c / 32] >> (c % 32) & 1 ? -1.0f : 1.0f;
  } else {
    double one = round(1.0 / (double)output->params.scale);
    double high = fmin(127, output->params.zero_point + one);
    double low = fmax(-128, output->params.zero_point - one);
    int8_t *values = output->data.int8;
    for (size_t row = 0; row < rows; row++, words += row_words, values += channels)
      for (size_t c = 0; c < channels; c++)
        values[c] = (int8_t)(words[c / 32] >> (c % 32) & 1 ? low : high);
  }
  return kTfLiteOk;
}

static TfLiteStatus prepare(TfLiteContext *context, EdgeOp *op) {
  State *state = op->state;
  const TfLiteTensor *input = edge_input(context, op, 0);
  TfLiteTensor *output = edge_output(context, op);
  if (!input) return edge_fail(context, op, "the input tensor is missing");
  if (input->type != kTfLiteInt32)
    return edge_fail(context, op, "the input tensor has type %d, not int32", input->type);
  if (output->type != kTfLiteFloat32 && output->type != kTfLiteInt8)
    return edge_fail(context, op, "the output tensor has type %d, not float32 or int8",
                     output->type);
  int rank = input->dims->size;
  size_t bytes;
  if (rank < 1 || rank > kEdgeMaxRank || rank != output->dims->size ||
      !edge_tensor_bytes(input->dims, 128, &bytes))
    return edge_fail(context, op, "the tensors' shapes are not supported");
  /* Only the output's shape in the file tells how many of the last word's bits are meant. */
  int channels = output->dims->data[rank - 1];
  if (channels <= 0 || edge_words(channels) != input->dims->data[rank - 1])
    return edge_fail(context, op, "%d channels do not fit an input of %d words", channels,
                     input->dims->data[rank - 1]);
  if (output->type == kTfLiteInt8) {
    if (!(output->params.scale > 0) || isinf(output->params.scale))
      return edge_fail(context, op, "the output's quantization scale is not a positive number");
    if (output->params.zero_point < INT8_MIN || output->params.zero_point > INT8_MAX)
      return edge_fail(context, op, "the output's zero point is not an int8 value");
  }
  int sizes[kEdgeMaxRank];
  memcpy(sizes, input->dims->data, (size_t)rank * sizeof *sizes);
  sizes[rank - 1] = channels;

  state->constant = input->allocation_type == kTfLiteMmapRo;
  if (state->constant) {
    /* A place in the arena, which another node's output may have here, is not to be freed. */
    if (output->allocation_type != kTfLitePersistentRo && output->allocation_type != kTfLiteDynamic)
      output->data.raw = NULL;
    output->allocation_type = kTfLitePersistentRo;
  }
  if (edge_resize_output(context, op, rank, sizes) != kTfLiteOk) return kTfLiteError;
  return state->constant ? unpack(context, op) : kTfLiteOk;
}

static TfLiteStatus invoke(TfLiteContext *context, EdgeOp *op) {
  const State *state = op->state;
  return state->constant ? kTfLiteOk : unpack(context, op);
}

const EdgeOpType edge_dequantize = {.name = "LceDequantize",
                                    .inputs = 1,
                                    .state_size = sizeof(State),
                                    .prepare = prepare,
                                    .invoke = invoke};
