/* The plugin: TFLite's external-delegate entry points, and the kernel that runs one operator.
 *
 * Each operator becomes a delegate kernel of its own. The tensors between them then stay in
 * TFLite's arena, which plans their memory, and other delegates (XNNPACK) take what lies between.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "op.h"
#include "tflite_abi.h"
#include "threads.h"

#define EXPORT __attribute__((visibility("default")))

enum { kMaxThreads = 64 };

typedef struct {
  TfLiteDelegate base; /* first, so that a pointer to it is one to this struct */
  EdgeThreads *threads;
  const EdgeKernels *kernels;
} EdgeDelegate;

static const EdgeOpType *const op_types[] = {
    &edge_quantize,      &edge_dequantize,  &edge_bconv2d, &edge_bmaxpool2d,
    &edge_fused_bconv2d, &edge_elementwise, &edge_mean};

static const EdgeOpType *find_type(const char *custom_name) {
  for (size_t i = 0; i < sizeof op_types / sizeof *op_types; i++)
    if (!strcmp(op_types[i]->name, custom_name)) return op_types[i];
  return NULL;
}

static void release_op(TfLiteContext *context, void *user_data) {
  (void)context;
  EdgeOp *op = user_data;
  if (!op) return;
  if (op->state && op->type->release) op->type->release(op->state);
  edge_tail_release(&op->tail);
  free(op->state);
  free(op);
}

/* TFLite hands over the parameters of the delegated nodes, one in our case, as `buffer`. */
static void *create_op(TfLiteContext *context, const char *buffer, size_t length) {
  (void)length;
  const TfLiteDelegateParams *params = (const TfLiteDelegateParams *)buffer;
  EdgeDelegate *delegate = params->delegate->data_;
  TfLiteNode *node;
  TfLiteRegistration *registration;
  if (params->nodes_to_replace->size != 1 ||
      context->GetNodeAndRegistration(context, params->nodes_to_replace->data[0], &node,
                                      &registration) != kTfLiteOk)
    return NULL;
  EdgeOp *op = calloc(1, sizeof *op);
  if (!op) return NULL;
  op->type = find_type(registration->custom_name);
  op->kernels = delegate->kernels;
  op->threads = delegate->threads;
  op->state = calloc(1, op->type->state_size);
  if (!op->state) {
    free(op);
    return NULL;
  }
  /* There is no way to fail here, so what is wrong is told when TFLite prepares the node. */
  const uint8_t *options = node->custom_initial_data;
  size_t size = node->custom_initial_data_size > 0 ? (size_t)node->custom_initial_data_size : 0;
  int inputs = op->type->inputs, outputs = 1;
  if (op->type->has_tail) {
    op->error = edge_tail_parse(&op->tail, inputs, options, size);
    if (op->error) return op;
    inputs += edge_tail_inputs(&op->tail);
    outputs = edge_tail_outputs(&op->tail);
    options++;
    size--;
  }
  if (node->inputs->size != inputs) {
    op->error = "wrong number of inputs";
  } else if (node->outputs->size != outputs) {
    op->error = "wrong number of outputs";
  } else {
    memcpy(op->inputs, node->inputs->data, (size_t)inputs * sizeof *op->inputs);
    memcpy(op->outputs, node->outputs->data, (size_t)outputs * sizeof *op->outputs);
    op->output_count = outputs;
    if (op->type->parse) op->error = op->type->parse(op->state, options, size);
  }
  return op;
}

static TfLiteStatus prepare_op(TfLiteContext *context, TfLiteNode *node) {
  EdgeOp *op = node->user_data;
  if (!op) {
    context->ReportError(context, "larq_seresnet delegate: out of memory");
    return kTfLiteError;
  }
  if (op->error) return edge_fail(context, op, "%s", op->error);
  for (int i = 0; i < op->output_count; i++) {
    const TfLiteTensor *output = edge_output_at(context, op, i);
    if (!output) return edge_fail(context, op, "the output tensor is missing");
    /* Whose memory is not the runtime's cannot be resized or written: a file's constants above all.
     * Persistent is what LceDequantize made of its output, when tensors are allocated again. */
    if (output->is_variable || output->allocation_type == kTfLiteMmapRo ||
        output->allocation_type > kTfLitePersistentRo)
      return edge_fail(context, op, "the output tensor is a constant or a variable");
  }
  return op->type->prepare(context, op);
}

static TfLiteStatus invoke_op(TfLiteContext *context, TfLiteNode *node) {
  EdgeOp *op = node->user_data;
  return op->type->invoke(context, op);
}

static const char *profiling_string(const TfLiteContext *context, const TfLiteNode *node) {
  (void)context;
  const EdgeOp *op = node->user_data;
  return op ? op->type->name : NULL;
}

/* True where the runtime's structs cannot be the ones declared in tflite_abi.h. */
static bool abi_contradicts(const TfLiteContext *context, const TfLiteNode *node) {
  const TfLiteIntArray *lists[] = {node->inputs, node->outputs};
  for (int l = 0; l < 2; l++) {
    if (!lists[l] || lists[l]->size < 0) return true;
    for (int i = 0; i < lists[l]->size; i++) {
      int index = lists[l]->data[i];
      if (index == kTfLiteOptionalTensor) continue;
      if (index < 0 || (size_t)index >= context->tensors_size) return true;
      const TfLiteTensor *tensor = &context->tensors[index];
      if (tensor->type < 0 || tensor->type > 64 || tensor->allocation_type < 0 ||
          tensor->allocation_type > 16)
        return true;
    }
  }
  return false;
}

static TfLiteStatus claim_nodes(TfLiteContext *context, TfLiteDelegate *base) {
  EdgeDelegate *delegate = base->data_;
  /* Two interpreters may share the delegate, each on a thread of its own. */
  static pthread_mutex_t creating = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&creating);
  if (!delegate->threads) {
    int count = context->recommended_num_threads;
    delegate->threads = edge_threads_create(count < 1             ? 1
                                            : count > kMaxThreads ? kMaxThreads
                                                                  : count);
  }
  pthread_mutex_unlock(&creating);
  if (!delegate->threads) return kTfLiteError;
  TfLiteIntArray *plan;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk) return kTfLiteError;
  /* Replacing a node changes the plan, so walk over a copy. */
  size_t plan_bytes = sizeof *plan + (size_t)plan->size * sizeof *plan->data;
  TfLiteIntArray *nodes = malloc(plan_bytes);
  TfLiteIntArray *one = malloc(sizeof *one + sizeof *one->data);
  TfLiteStatus status = nodes && one ? kTfLiteOk : kTfLiteError;
  if (nodes) memcpy(nodes, plan, plan_bytes);
  for (int i = 0; status == kTfLiteOk && i < nodes->size; i++) {
    TfLiteNode *node;
    TfLiteRegistration *registration;
    status = context->GetNodeAndRegistration(context, nodes->data[i], &node, &registration);
    if (status != kTfLiteOk) break;
    if (registration->builtin_code != kTfLiteBuiltinCustom || !registration->custom_name ||
        !find_type(registration->custom_name))
      continue;
    if (abi_contradicts(context, node)) {
      context->ReportError(context, "larq_seresnet delegate: this TFLite runtime's binary "
                                    "interface is not one that the delegate knows");
      status = kTfLiteError;
      break;
    }
    TfLiteRegistration kernel = {
        .init = create_op,
        .free = release_op,
        .prepare = prepare_op,
        .invoke = invoke_op,
        .profiling_string = profiling_string,
        .custom_name = "LarqSeresnetDelegate",
        .version = 1,
    };
    one->size = 1;
    one->data[0] = nodes->data[i];
    status = context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, one, base);
  }
  free(nodes);
  free(one);
  return status;
}

/* Options: "num_threads" (default: the interpreter's), "kernels" (a name of edge_kernels_by_name,
 * default: the fastest that the CPU has). */
EXPORT TfLiteDelegate *tflite_plugin_create_delegate(const char *const *keys,
                                                     const char *const *values, size_t count,
                                                     void (*report_error)(const char *)) {
  EdgeDelegate *delegate = calloc(1, sizeof *delegate);
  if (!delegate) return NULL;
  delegate->base.data_ = delegate;
  delegate->base.Prepare = claim_nodes;
  delegate->base.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
  delegate->kernels = edge_best_kernels();

  char message[128] = "";
  for (size_t i = 0; i < count && !message[0]; i++) {
    if (!strcmp(keys[i], "num_threads")) {
      char *end;
      long threads = strtol(values[i], &end, 10);
      if (*end || threads < 1 || threads > kMaxThreads)
        snprintf(message, sizeof message, "num_threads must be from 1 to %d", kMaxThreads);
      else if (!(delegate->threads = edge_threads_create((int)threads)))
        snprintf(message, sizeof message, "out of memory");
    } else if (!strcmp(keys[i], "kernels")) {
      delegate->kernels = edge_kernels_by_name(values[i]);
      if (!delegate->kernels)
        snprintf(message, sizeof message, "this CPU has no kernels '%.32s'", values[i]);
    } else {
      snprintf(message, sizeof message, "unknown option '%.32s'", keys[i]);
    }
  }
  if (message[0]) {
    if (report_error) report_error(message);
    edge_threads_destroy(delegate->threads);
    free(delegate);
    return NULL;
  }
  return &delegate->base;
}

EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate *base) {
  if (!base) return;
  EdgeDelegate *delegate = base->data_;
  edge_threads_destroy(delegate->threads);
  free(delegate);
}

/* The name of the kernels that a delegate without options uses. */
EXPORT const char *larq_seresnet_kernels(void) { return edge_best_kernels()->name; }
