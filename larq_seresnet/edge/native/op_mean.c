/* EdgeMean: the mean of each channel of an image, as TFLite's MEAN over height and width.
 *
 * Sums are cut into four interleaved parts, so that with n pixels each value differs from the
 * exact mean by at most (n / 4 + 4) * 2^-24 times the mean of the magnitudes. */
#include "op.h"

static bool sizes_fit(const TfLiteIntArray *in, const TfLiteIntArray *out) {
  int rank = out->size;
  if (in->size != 4 || (rank != 4 && rank != 2)) return false;
  return out->data[0] == in->data[0] && out->data[rank - 1] == in->data[3] &&
         (rank == 2 || (out->data[1] == 1 && out->data[2] == 1));
}

static TfLiteStatus prepare(TfLiteContext *context, EdgeOp *op) {
  const TfLiteTensor *input = edge_checked_input(context, op, 0, "input", kTfLiteFloat32, 4);
  if (!input) return kTfLiteError;
  const TfLiteTensor *output = edge_output(context, op);
  if (output->type != kTfLiteFloat32) return edge_fail(context, op, "the output is not float32");
  int batch = input->dims->data[0], channels = input->dims->data[3];
  int kept[] = {batch, 1, 1, channels}, flat[] = {batch, channels};
  if (output->dims->size != 4 && output->dims->size != 2)
    return edge_fail(context, op, "the output has neither 4 nor 2 dimensions");
  return edge_resize_output(context, op, output->dims->size, output->dims->size == 4 ? kept : flat);
}

static TfLiteStatus invoke(TfLiteContext *context, EdgeOp *op) {
  const TfLiteTensor *input = edge_input(context, op, 0), *output = edge_output(context, op);
  if (!edge_has_data(input, 4) || !edge_has_data(output, 4) ||
      !sizes_fit(input->dims, output->dims))
    return edge_fail(context, op, "a tensor's memory or shape changed");
  const int *in = input->dims->data;
  size_t pixels = (size_t)in[1] * (size_t)in[2], channels = (size_t)in[3];
  for (size_t image = 0; image < (size_t)in[0]; image++)
    op->kernels->mean(input->data.f + image * pixels * channels, pixels, channels,
                      output->data.f + image * channels);
  return kTfLiteOk;
}

const EdgeOpType edge_mean = {
    .name = "EdgeMean", .inputs = 1, .state_size = 1, .prepare = prepare, .invoke = invoke};
