/* LceBMaxPool2d: maximum over windows of packed signs. A clear bit is +1, so the maximum of bits is
 * their AND. Positions outside the image do not take part. */
#include "flexbuffer.h"
#include "op.h"

typedef struct {
  int32_t filter_height, filter_width, stride_height, stride_width, padding;
  EdgeWindow rows, columns;
} State;

static const char *parse(void *raw, const uint8_t *options, size_t size) {
  State *state = raw;
  if (!edge_flex_int32(options, size, "filter_height", &state->filter_height) ||
      !edge_flex_int32(options, size, "filter_width", &state->filter_width) ||
      !edge_flex_int32(options, size, "stride_height", &state->stride_height) ||
      !edge_flex_int32(options, size, "stride_width", &state->stride_width) ||
      !edge_flex_int32(options, size, "padding", &state->padding))
    return "the options are malformed or incomplete";
  return NULL;
}

static TfLiteStatus prepare(TfLiteContext *context, EdgeOp *op) {
  State *state = op->state;
  const TfLiteTensor *input = edge_checked_input(context, op, 0, "input", kTfLiteInt32, 4);
  if (!input) return kTfLiteError;
  if (edge_output(context, op)->type != kTfLiteInt32)
    return edge_fail(context, op, "the output tensor is not int32");
  const int *in = input->dims->data;
  if (!edge_window(in[1], state->filter_height, state->stride_height, 1, state->padding,
                   &state->rows) ||
      !edge_window(in[2], state->filter_width, state->stride_width, 1, state->padding,
                   &state->columns))
    return edge_fail(context, op, "filter, stride or padding is out of range");
  int sizes[] = {in[0], state->rows.output, state->columns.output, in[3]};
  return edge_resize_output(context, op, 4, sizes);
}

static TfLiteStatus invoke(TfLiteContext *context, EdgeOp *op) {
  const State *state = op->state;
  const TfLiteTensor *input = edge_input(context, op, 0);
  TfLiteTensor *output = edge_output(context, op);
  const int *in = input->dims->data, *out = output->dims->data;
  if (input->dims->size != 4 || output->dims->size != 4 || !edge_has_data(input, 4) ||
      !edge_has_data(output, 4) || out[0] != in[0] || out[1] != state->rows.output ||
      out[2] != state->columns.output || out[3] != in[3])
    return edge_fail(context, op, "a tensor's memory or shape changed");

  uint32_t *result = output->data.u32;
  for (int batch = 0; batch < out[0]; batch++)
    for (int y = 0; y < out[1]; y++)
      for (int x = 0; x < out[2]; x++, result += out[3]) {
        int64_t top = (int64_t)y * state->stride_height - state->rows.pad_before;
        int64_t left = (int64_t)x * state->stride_width - state->columns.pad_before;
        int64_t bottom = top + state->filter_height, right = left + state->filter_width;
        if (bottom > in[1]) bottom = in[1];
        if (right > in[2]) right = in[2];
        if (top < 0) top = 0;
        if (left < 0) left = 0;
        for (int c = 0; c < out[3]; c++) result[c] = UINT32_MAX;
        for (int64_t row = top; row < bottom; row++)
          for (int64_t column = left; column < right; column++) {
            const uint32_t *words =
                input->data.u32 + (((int64_t)batch * in[1] + row) * in[2] + column) * in[3];
            for (int c = 0; c < out[3]; c++) result[c] &= words[c];
          }
      }
  return kTfLiteOk;
}

const EdgeOpType edge_bmaxpool2d = {.name = "LceBMaxPool2d",
                                    .inputs = 1,
                                    .state_size = sizeof(State),
                                    .parse = parse,
                                    .prepare = prepare,
                                    .invoke = invoke};
