// What a training step of an SE-ResNet does between its convolutions, in as few passes over memory
// as it takes: batch norm, gates, shortcut and ReLU; sign and padding. See training/fused.py.
//
// Feature maps are (batch, height, width, channels) in float32 or bfloat16; every sum is float32.
// Images are shared out among threads and summed up in order: results do not depend on timing.

#include <cstdint>
#include <cstring>
#include <vector>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpOutputList;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::bfloat16;
using tensorflow::errors::InvalidArgument;
using tensorflow::shape_inference::InferenceContext;

// Values of a feature map as the arithmetic sees them. Eigen's conversions do not vectorize here.
struct Float32 {
  using Stored = float;
  static float Load(Stored value) { return value; }
  static Stored Store(float value) { return value; }
};

struct BFloat16 {
  using Stored = uint16_t;
  static float Load(Stored value) {
    const uint32_t bits = uint32_t{value} << 16;
    float result;
    std::memcpy(&result, &bits, sizeof(result));
    return result;
  }
  static Stored Store(float value) {  // rounds to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return static_cast<Stored>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
};

template <typename T>
struct ValueOf {
  using Type = Float32;
};
template <>
struct ValueOf<bfloat16> {
  using Type = BFloat16;
};

// One image is `rows` rows of `span` values, a multiple of the channels; `kLanes` of a row are
// worked on together, and lane i of block b belongs to channel (b + i) % channels.
constexpr int kLanes = 64;

struct Layout {
  int64_t images, positions, channels, rows, span;
  bool wide;

  explicit Layout(const Tensor& x)
      : images(x.dim_size(0)), positions(x.dim_size(1) * x.dim_size(2)), channels(x.dim_size(3)) {
    span = channels < kLanes ? kLanes : channels;
    const int64_t size = positions * channels;
    wide = span % channels == 0 && span % kLanes == 0 && size % span == 0;
    if (!wide) span = channels;
    rows = span ? size / span : 0;
  }

  int64_t size() const { return positions * channels; }

  // Calls work(image, lanes) for every image, with the lanes as a compile-time constant.
  template <typename Work>
  void ForImages(OpKernelContext* context, const Work& work) const {
    const auto range = [&](int64_t begin, int64_t end) {
      for (int64_t image = begin; image < end; ++image) {
        if (wide) {
          work(image, std::integral_constant<int, kLanes>());
        } else {
          work(image, std::integral_constant<int, 1>());
        }
      }
    };
    const auto& threads = *context->device()->tensorflow_cpu_worker_threads();
    threads.workers->ParallelFor(images, size(), range);
  }
};

// The coefficients of the channels of the lanes from `block` on.
template <int kWidth>
struct Coefficients {
  float value[kWidth];
  Coefficients(const float* channels, int64_t block, int64_t count) {
    for (int i = 0; i < kWidth; ++i) value[i] = channels[(block + i) % count];
  }
};

template <int kWidth>
struct Sums {
  float value[kWidth] = {};
  void AddTo(float* channels, int64_t block, int64_t count) const {
    for (int i = 0; i < kWidth; ++i) channels[(block + i) % count] += value[i];
  }
};

template <typename V>
const typename V::Stored* Data(const Tensor& tensor) {
  return reinterpret_cast<const typename V::Stored*>(tensor.tensor_data().data());
}

template <typename V>
typename V::Stored* Data(Tensor* tensor) {
  return const_cast<typename V::Stored*>(Data<V>(*tensor));
}

bool Matches(const Tensor& tensor, std::initializer_list<int64_t> shape) {
  return tensor.shape() == TensorShape(std::vector<int64_t>(shape));
}

#define REQUIRE(context, condition, message) \
  OP_REQUIRES(context, condition, InvalidArgument(message))

template <typename T>
class ChannelSums : public OpKernel {
  using V = typename ValueOf<T>::Type;

 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    REQUIRE(context, x.dims() == 4, "x must have 4 dimensions");
    const Layout layout(x);
    Tensor* sums;
    OP_REQUIRES_OK(context, context->allocate_output(
                                0, TensorShape({2, layout.images, layout.channels}), &sums));
    context->set_output(1, x);
    const auto* from = Data<V>(x);
    float* first = sums->flat<float>().data();
    float* second = first + layout.images * layout.channels;
    layout.ForImages(context, [&](int64_t image, auto lanes) {
      constexpr int kWidth = decltype(lanes)::value;
      float* sum = first + image * layout.channels;
      float* square = second + image * layout.channels;
      std::fill_n(sum, layout.channels, 0.0f);
      std::fill_n(square, layout.channels, 0.0f);
      for (int64_t block = 0; block < layout.span; block += kWidth) {
        const auto* row = from + image * layout.size() + block;
        Sums<kWidth> s, q;
        for (int64_t r = 0; r < layout.rows; ++r, row += layout.span) {
          for (int i = 0; i < kWidth; ++i) {
            const float value = V::Load(row[i]);
            s.value[i] += value;
            q.value[i] += value * value;
          }
        }
        s.AddTo(sum, block, layout.channels);
        q.AddTo(square, block, layout.channels);
      }
    });
  }
};

template <typename T>
class ChannelSumsGrad : public OpKernel {
  using V = typename ValueOf<T>::Type;

 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& upstream = context->input(0);
    const Tensor& x = context->input(1);
    const Tensor& sums = context->input(2);
    REQUIRE(context, x.dims() == 4, "x must have 4 dimensions");
    const Layout layout(x);
    REQUIRE(context, upstream.shape() == x.shape(), "upstream must have the shape of x");
    REQUIRE(context, Matches(sums, {2, layout.images, layout.channels}),
            "sums must have the shape (2, batch, channels)");
    Tensor* result;
    OP_REQUIRES_OK(context,
                   context->forward_input_or_allocate_output({0}, 0, x.shape(), &result));
    const auto* above = Data<V>(upstream);
    const auto* from = Data<V>(x);
    auto* to = Data<V>(result);
    const float* first = sums.flat<float>().data();
    const float* second = first + layout.images * layout.channels;
    layout.ForImages(context, [&](int64_t image, auto lanes) {
      constexpr int kWidth = decltype(lanes)::value;
      const int64_t at = image * layout.channels;
      for (int64_t block = 0; block < layout.span; block += kWidth) {
        const Coefficients<kWidth> s(first + at, block, layout.channels);
        const Coefficients<kWidth> q(second + at, block, layout.channels);
        int64_t offset = image * layout.size() + block;
        for (int64_t r = 0; r < layout.rows; ++r, offset += layout.span) {
          for (int i = 0; i < kWidth; ++i) {
            to[offset + i] = V::Store(V::Load(above[offset + i]) + s.value[i] +
                                      2.0f * V::Load(from[offset + i]) * q.value[i]);
          }
        }
      }
    });
  }
};

template <typename T>
class ScaleShift : public OpKernel {
  using V = typename ValueOf<T>::Type;

 public:
  explicit ScaleShift(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor& scale = context->input(1);
    const Tensor& shift = context->input(2);
    REQUIRE(context, x.dims() == 4, "x must have 4 dimensions");
    const Layout layout(x);
    REQUIRE(context,
            Matches(scale, {layout.images, layout.channels}) && scale.shape() == shift.shape(),
            "scale and shift must have the shape (batch, channels)");
    const bool add = context->num_inputs() > 3;
    REQUIRE(context, !add || context->input(3).shape() == x.shape(),
            "the shortcut must have the shape of x");
    Tensor* result;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &result));
    if (add && relu_) {
      Apply<true, true>(context, layout, result);
    } else if (add) {
      Apply<true, false>(context, layout, result);
    } else if (relu_) {
      Apply<false, true>(context, layout, result);
    } else {
      Apply<false, false>(context, layout, result);
    }
  }

 private:
  template <bool kAdd, bool kRelu>
  void Apply(OpKernelContext* context, const Layout& layout, Tensor* result) {
    const auto* from = Data<V>(context->input(0));
    const float* scale = context->input(1).flat<float>().data();
    const float* shift = context->input(2).flat<float>().data();
    const auto* shortcut = kAdd ? Data<V>(context->input(3)) : from;
    auto* to = Data<V>(result);
    layout.ForImages(context, [&](int64_t image, auto lanes) {
      constexpr int kWidth = decltype(lanes)::value;
      const int64_t at = image * layout.channels;
      for (int64_t block = 0; block < layout.span; block += kWidth) {
        const Coefficients<kWidth> a(scale + at, block, layout.channels);
        const Coefficients<kWidth> b(shift + at, block, layout.channels);
        int64_t offset = image * layout.size() + block;
        for (int64_t r = 0; r < layout.rows; ++r, offset += layout.span) {
          for (int i = 0; i < kWidth; ++i) {
            float value = V::Load(from[offset + i]) * a.value[i] + b.value[i];
            if (kAdd) value += V::Load(shortcut[offset + i]);
            if (kRelu) value = value > 0.0f ? value : 0.0f;
            to[offset + i] = V::Store(value);
          }
        }
      }
    });
  }

  bool relu_;
};

template <typename T>
class ScaleShiftGrad : public OpKernel {
  using V = typename ValueOf<T>::Type;

 public:
  explicit ScaleShiftGrad(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(2);
    REQUIRE(context, x.dims() == 4, "x must have 4 dimensions");
    const Layout layout(x);
    REQUIRE(context,
            context->input(0).shape() == x.shape() && context->input(1).shape() == x.shape(),
            "upstream and y must have the shape of x");
    REQUIRE(context, Matches(context->input(3), {layout.images, layout.channels}),
            "scale must have the shape (batch, channels)");
    Tensor *result, *scale, *shift, *shortcut = nullptr;
    OP_REQUIRES_OK(context,
                   context->forward_input_or_allocate_output({0}, 0, x.shape(), &result));
    const TensorShape channels({layout.images, layout.channels});
    OP_REQUIRES_OK(context, context->allocate_output(1, channels, &scale));
    OP_REQUIRES_OK(context, context->allocate_output(2, channels, &shift));
    const bool add = context->num_outputs() > 3;
    if (add) OP_REQUIRES_OK(context, context->allocate_output(3, x.shape(), &shortcut));
    if (add && relu_) {
      Apply<true, true>(context, layout, result, scale, shift, shortcut);
    } else if (add) {
      Apply<true, false>(context, layout, result, scale, shift, shortcut);
    } else if (relu_) {
      Apply<false, true>(context, layout, result, scale, shift, shortcut);
    } else {
      Apply<false, false>(context, layout, result, scale, shift, shortcut);
    }
  }

 private:
  template <bool kAdd, bool kRelu>
  void Apply(OpKernelContext* context, const Layout& layout, Tensor* result, Tensor* scale_grad,
             Tensor* shift_grad, Tensor* shortcut_grad) {
    const auto* above = Data<V>(context->input(0));
    const auto* y = Data<V>(context->input(1));
    const auto* from = Data<V>(context->input(2));
    const float* scale = context->input(3).flat<float>().data();
    auto* to = Data<V>(result);
    auto* shortcut = kAdd ? Data<V>(shortcut_grad) : to;
    float* scales = scale_grad->flat<float>().data();
    float* shifts = shift_grad->flat<float>().data();
    layout.ForImages(context, [&](int64_t image, auto lanes) {
      constexpr int kWidth = decltype(lanes)::value;
      const int64_t at = image * layout.channels;
      std::fill_n(scales + at, layout.channels, 0.0f);
      std::fill_n(shifts + at, layout.channels, 0.0f);
      for (int64_t block = 0; block < layout.span; block += kWidth) {
        const Coefficients<kWidth> a(scale + at, block, layout.channels);
        Sums<kWidth> of_scale, of_shift;
        int64_t offset = image * layout.size() + block;
        for (int64_t r = 0; r < layout.rows; ++r, offset += layout.span) {
          for (int i = 0; i < kWidth; ++i) {
            float gradient = V::Load(above[offset + i]);
            if (kRelu) gradient = V::Load(y[offset + i]) > 0.0f ? gradient : 0.0f;
            of_shift.value[i] += gradient;
            of_scale.value[i] += gradient * V::Load(from[offset + i]);
            if (kAdd) shortcut[offset + i] = V::Store(gradient);
            to[offset + i] = V::Store(gradient * a.value[i]);
          }
        }
        of_scale.AddTo(scales + at, block, layout.channels);
        of_shift.AddTo(shifts + at, block, layout.channels);
      }
    });
  }

  bool relu_;
};

// The signs of the image inside a frame of ones: rows of the image lie in rows of the framed one.
struct Frame {
  int64_t images, height, width, channels;
  std::vector<int64_t> padding;  // top, bottom, left, right

  Frame(const Tensor& x, const std::vector<int64_t>& padding)
      : images(x.dim_size(0)), height(x.dim_size(1)), width(x.dim_size(2)),
        channels(x.dim_size(3)), padding(padding) {}

  int64_t row() const { return width * channels; }
  int64_t framed_height() const { return height + padding[0] + padding[1]; }
  int64_t framed_row() const { return (width + padding[2] + padding[3]) * channels; }
  int64_t left() const { return padding[2] * channels; }
  TensorShape framed_shape() const {
    return TensorShape({images, framed_height(), width + padding[2] + padding[3], channels});
  }

  template <typename Work>
  void ForImages(OpKernelContext* context, const Work& work) const {
    const auto& threads = *context->device()->tensorflow_cpu_worker_threads();
    threads.workers->ParallelFor(images, framed_height() * framed_row(),
                                 [&](int64_t begin, int64_t end) {
                                   for (int64_t image = begin; image < end; ++image) work(image);
                                 });
  }
};

template <typename T>
class SignPad : public OpKernel {
  using V = typename ValueOf<T>::Type;

 public:
  explicit SignPad(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("padding", &padding_));
    REQUIRE(context, padding_.size() == 4, "padding must be top, bottom, left, right");
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    REQUIRE(context, x.dims() == 4, "x must have 4 dimensions");
    const Frame frame(x, padding_);
    Tensor* result;
    OP_REQUIRES_OK(context, context->allocate_output(0, frame.framed_shape(), &result));
    context->set_output(1, x);
    const auto* from = Data<V>(x);
    auto* to = Data<V>(result);
    frame.ForImages(context, [&](int64_t image) {
      const auto one = V::Store(1.0f), minus_one = V::Store(-1.0f);
      const int64_t row = frame.row(), top = frame.padding[0];
      const auto* value = from + image * frame.height * row;
      auto* out = to + image * frame.framed_height() * frame.framed_row();
      for (int64_t h = -top; h < frame.framed_height() - top; ++h, out += frame.framed_row()) {
        std::fill_n(out, frame.framed_row(), one);
        if (h < 0 || h >= frame.height) continue;
        auto* inner = out + frame.left();
        for (int64_t i = 0; i < row; ++i) inner[i] = V::Load(value[i]) >= 0.0f ? one : minus_one;
        value += row;
      }
    });
  }

 private:
  std::vector<int64_t> padding_;
};

template <typename T>
class SignPadGrad : public OpKernel {
  using V = typename ValueOf<T>::Type;

 public:
  explicit SignPadGrad(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("padding", &padding_));
    REQUIRE(context, padding_.size() == 4, "padding must be top, bottom, left, right");
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& upstream = context->input(0);
    const Tensor& same = context->input(1);
    const Tensor& x = context->input(2);
    REQUIRE(context, x.dims() == 4, "x must have 4 dimensions");
    const Frame frame(x, padding_);
    REQUIRE(context, upstream.shape() == frame.framed_shape() && same.shape() == x.shape(),
            "the upstream gradients must have the shapes of the results");
    Tensor* result;
    OP_REQUIRES_OK(context,
                   context->forward_input_or_allocate_output({1}, 0, x.shape(), &result));
    const auto* above = Data<V>(upstream);
    const auto* beside = Data<V>(same);
    const auto* from = Data<V>(x);
    auto* to = Data<V>(result);
    frame.ForImages(context, [&](int64_t image) {
      const int64_t row = frame.row();
      const auto* gradient = above + frame.left() +
                             (image * frame.framed_height() + frame.padding[0]) * frame.framed_row();
      int64_t offset = image * frame.height * row;
      for (int64_t h = 0; h < frame.height; ++h, offset += row, gradient += frame.framed_row()) {
        for (int64_t i = 0; i < row; ++i) {
          const float value = V::Load(from[offset + i]);
          const float passed = value <= 1.0f && value >= -1.0f ? V::Load(gradient[i]) : 0.0f;
          to[offset + i] = V::Store(V::Load(beside[offset + i]) + passed);
        }
      }
    });
  }

 private:
  std::vector<int64_t> padding_;
};

template <int kInput>
tensorflow::Status LikeInput(InferenceContext* context) {
  context->set_output(0, context->input(kInput));
  return tensorflow::OkStatus();
}

}  // namespace

REGISTER_OP("LarqSeresnetChannelSums")
    .Attr("T: {float, bfloat16}")
    .Input("x: T")
    .Output("sums: float")
    .Output("same: T")
    .SetShapeFn([](InferenceContext* context) {
      const auto x = context->input(0);
      context->set_output(0, context->MakeShape({context->MakeDim(2), context->Dim(x, 0),
                                                 context->Dim(x, 3)}));
      context->set_output(1, x);
      return tensorflow::OkStatus();
    });

REGISTER_OP("LarqSeresnetChannelSumsGrad")
    .Attr("T: {float, bfloat16}")
    .Input("upstream: T")
    .Input("x: T")
    .Input("sums: float")
    .Output("result: T")
    .SetShapeFn(LikeInput<1>);

REGISTER_OP("LarqSeresnetScaleShift")
    .Attr("T: {float, bfloat16}")
    .Attr("relu: bool")
    .Attr("shortcuts: int >= 0")
    .Input("x: T")
    .Input("scale: float")
    .Input("shift: float")
    .Input("shortcut: shortcuts * T")
    .Output("y: T")
    .SetShapeFn(LikeInput<0>);

REGISTER_OP("LarqSeresnetScaleShiftGrad")
    .Attr("T: {float, bfloat16}")
    .Attr("relu: bool")
    .Attr("shortcuts: int >= 0")
    .Input("upstream: T")
    .Input("y: T")
    .Input("x: T")
    .Input("scale: float")
    .Output("x_grad: T")
    .Output("scale_grad: float")
    .Output("shift_grad: float")
    .Output("shortcut_grad: shortcuts * T")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->input(2));
      context->set_output(1, context->input(3));
      context->set_output(2, context->input(3));
      for (int i = 3; i < context->num_outputs(); ++i) context->set_output(i, context->input(2));
      return tensorflow::OkStatus();
    });

REGISTER_OP("LarqSeresnetSignPad")
    .Attr("T: {float, bfloat16}")
    .Attr("padding: list(int)")
    .Input("x: T")
    .Output("y: T")
    .Output("same: T")
    .SetShapeFn([](InferenceContext* context) {
      std::vector<int64_t> padding;
      TF_RETURN_IF_ERROR(context->GetAttr("padding", &padding));
      const auto x = context->input(0);
      tensorflow::shape_inference::DimensionHandle height, width;
      TF_RETURN_IF_ERROR(context->Add(context->Dim(x, 1), padding[0] + padding[1], &height));
      TF_RETURN_IF_ERROR(context->Add(context->Dim(x, 2), padding[2] + padding[3], &width));
      context->set_output(
          0, context->MakeShape({context->Dim(x, 0), height, width, context->Dim(x, 3)}));
      context->set_output(1, x);
      return tensorflow::OkStatus();
    });

REGISTER_OP("LarqSeresnetSignPadGrad")
    .Attr("T: {float, bfloat16}")
    .Attr("padding: list(int)")
    .Input("upstream: T")
    .Input("same: T")
    .Input("x: T")
    .Output("x_grad: T")
    .SetShapeFn(LikeInput<2>);

#define REGISTER(name, type, ...)                                                                 \
  REGISTER_KERNEL_BUILDER(                                                                        \
      Name("LarqSeresnet" name).Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"),         \
      __VA_ARGS__)
#define REGISTER_ALL(type)                                       \
  REGISTER("ChannelSums", type, ChannelSums<type>);              \
  REGISTER("ChannelSumsGrad", type, ChannelSumsGrad<type>);      \
  REGISTER("ScaleShift", type, ScaleShift<type>);                \
  REGISTER("ScaleShiftGrad", type, ScaleShiftGrad<type>);        \
  REGISTER("SignPad", type, SignPad<type>);                      \
  REGISTER("SignPadGrad", type, SignPadGrad<type>)
REGISTER_ALL(float);
REGISTER_ALL(bfloat16);
