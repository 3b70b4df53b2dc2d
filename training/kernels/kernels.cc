// What a training step of an SE-ResNet does between its convolutions, in as few passes over memory
// as it takes: batch norm, gates, shortcut and ReLU; sign and padding. See training/trainer/fused.py.
//
// Feature maps are (batch, height, width, channels) in float32 or bfloat16; every sum is float32.
// Images are shared out among threads and summed up in order: results do not depend on timing.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::OpInputList;
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

// Work is done on `kLanes` neighbouring values at once. A line of an image is divided into spans, of
// the lanes or a multiple of them, such that lane i of block b of every span is of one channel.
constexpr int kLanes = 64;

struct Layout {
  int64_t images, lines, line, channels, span;
  bool wide;

  explicit Layout(const Tensor& x)
      : images(x.dim_size(0)), lines(x.dim_size(1)), line(x.dim_size(2) * x.dim_size(3)),
        channels(x.dim_size(3)) {
    span = std::max<int64_t>(channels, kLanes);
    wide = span % channels == 0 && span % kLanes == 0 && line % span == 0;
    if (!wide) span = channels;
  }

  int64_t size() const { return lines * line; }

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

  // Calls work(offset, h) for the block of every span, in line h, from the first line to the last.
  template <typename Work>
  void ForSpans(int64_t image, int64_t block, const Work& work) const {
    int64_t offset = image * size() + block;
    for (int64_t h = 0; h < lines; ++h) {
      for (int64_t end = offset + line; offset < end; offset += span) work(offset, h);
    }
  }
};

// A frame of ones around the signs of an image.
struct Frame {
  int64_t top = 0, bottom = 0, left = 0, right = 0;  // left and right: in values, not pixels

  Frame(const std::vector<int64_t>& padding, int64_t channels) {
    if (padding.empty()) return;
    top = padding[0];
    bottom = padding[1];
    left = padding[2] * channels;
    right = padding[3] * channels;
  }

  TensorShape ShapeAround(const Tensor& x) const {
    const int64_t channels = x.dim_size(3);
    return TensorShape({x.dim_size(0), x.dim_size(1) + top + bottom,
                        x.dim_size(2) + (left + right) / channels, channels});
  }

  int64_t SizeAround(const Layout& x) const {
    return (x.lines + top + bottom) * (left + x.line + right);
  }

  // What is to be added to the offset of a value in line h of x, to find it in the frame.
  int64_t Displacement(const Layout& x, int64_t image, int64_t h) const {
    return image * (SizeAround(x) - x.size()) + top * (left + x.line + right) +
           h * (left + right) + left;
  }

  template <typename Stored>
  void Fill(const Layout& x, Stored* image, Stored one) const {
    const int64_t width = left + x.line + right;
    image = std::fill_n(image, top * width, one);
    for (int64_t h = 0; h < x.lines; ++h) {
      image = std::fill_n(image, left, one) + x.line;
      image = std::fill_n(image, right, one);
    }
    std::fill_n(image, bottom * width, one);
  }
};

// Calls work with the flag as a compile-time constant.
template <typename Work>
void WithConstant(bool flag, const Work& work) {
  flag ? work(std::true_type()) : work(std::false_type());
}

// The value or 0, without a branch that would keep the loop around it from being vectorized.
float Where(bool condition, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits &= -uint32_t{condition};
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

template <bool kRectify>
float Rectified(float value) {
  return kRectify ? Where(!(value < 0.0f), value) : value;
}

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

class ChannelKernel : public OpKernel {
 public:
  explicit ChannelKernel(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("rectify", &rectify_));
  }

 protected:
  bool rectify_;  // ReLU(x) takes the place of x
};

template <typename T>
class ChannelSums : public ChannelKernel {
  using V = typename ValueOf<T>::Type;

 public:
  using ChannelKernel::ChannelKernel;

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
    const auto apply = [&](auto rectifies) {
      layout.ForImages(context, [&](int64_t image, auto lanes) {
        constexpr int kWidth = decltype(lanes)::value;
        float* sum = first + image * layout.channels;
        float* square = second + image * layout.channels;
        std::fill_n(sum, layout.channels, 0.0f);
        std::fill_n(square, layout.channels, 0.0f);
        for (int64_t block = 0; block < layout.span; block += kWidth) {
          Sums<kWidth> s, q;
          layout.ForSpans(image, block, [&](int64_t offset, int64_t) {
            for (int i = 0; i < kWidth; ++i) {
              const float value = Rectified<rectifies>(V::Load(from[offset + i]));
              s.value[i] += value;
              q.value[i] += value * value;
            }
          });
          s.AddTo(sum, block, layout.channels);
          q.AddTo(square, block, layout.channels);
        }
      });
    };
    WithConstant(rectify_, apply);
  }
};

template <typename T>
class ChannelSumsGrad : public ChannelKernel {
  using V = typename ValueOf<T>::Type;

 public:
  using ChannelKernel::ChannelKernel;

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
    const auto apply = [&](auto rectified) {
      layout.ForImages(context, [&](int64_t image, auto lanes) {
        constexpr int kWidth = decltype(lanes)::value;
        const int64_t at = image * layout.channels;
        for (int64_t block = 0; block < layout.span; block += kWidth) {
          const Coefficients<kWidth> s(first + at, block, layout.channels);
          const Coefficients<kWidth> q(second + at, block, layout.channels);
          layout.ForSpans(image, block, [&](int64_t offset, int64_t) {
            for (int i = 0; i < kWidth; ++i) {
              const float value = V::Load(from[offset + i]);
              const float of_sums = s.value[i] + 2.0f * value * q.value[i];
              to[offset + i] = V::Store(V::Load(above[offset + i]) +
                                        Where(!rectified || !(value <= 0.0f), of_sums));
            }
          });
        }
      });
    };
    WithConstant(rectify_, apply);
  }
};

class ScaleShiftKernel : public ChannelKernel {
 public:
  explicit ScaleShiftKernel(OpKernelConstruction* context) : ChannelKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_));
    OP_REQUIRES_OK(context, context->GetAttr("padding", &padding_));
  }

 protected:
  bool relu_;
  std::vector<int64_t> padding_;  // of the signs that come with the result; empty: none do
};

template <typename T>
class ScaleShift : public ScaleShiftKernel {
  using V = typename ValueOf<T>::Type;

 public:
  using ScaleShiftKernel::ScaleShiftKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    const Tensor& scale = context->input(1);
    const Tensor& shift = context->input(2);
    REQUIRE(context, x.dims() == 4, "x must have 4 dimensions");
    const Layout layout(x);
    const Frame frame(padding_, layout.channels);
    REQUIRE(context,
            Matches(scale, {layout.images, layout.channels}) && scale.shape() == shift.shape(),
            "scale and shift must have the shape (batch, channels)");
    const bool add = context->num_inputs() > 3;
    REQUIRE(context, !add || context->input(3).shape() == x.shape(),
            "the shortcut must have the shape of x");
    OpOutputList copies, framed;
    OP_REQUIRES_OK(context, context->output_list("y", &copies));
    OP_REQUIRES_OK(context, context->output_list("signs", &framed));
    Tensor *result, *signs = nullptr;
    OP_REQUIRES_OK(context, copies.allocate(0, x.shape(), &result));
    for (int i = 1; i < copies.size(); ++i) copies.set(i, *result);
    if (framed.size()) OP_REQUIRES_OK(context, framed.allocate(0, frame.ShapeAround(x), &signs));

    const auto* from = Data<V>(x);
    const float* scales = scale.flat<float>().data();
    const float* shifts = shift.flat<float>().data();
    const auto* shortcut = add ? Data<V>(context->input(3)) : nullptr;
    auto* to = Data<V>(result);
    auto* sign = signs ? Data<V>(signs) : nullptr;
    const auto apply = [&](auto rectifies_x, auto adds, auto rectifies, auto gives_signs) {
      layout.ForImages(context, [&](int64_t image, auto lanes) {
        constexpr int kWidth = decltype(lanes)::value;
        const auto one = V::Store(1.0f), minus_one = V::Store(-1.0f);
        const int64_t at = image * layout.channels;
        if (gives_signs) frame.Fill(layout, sign + image * frame.SizeAround(layout), one);
        for (int64_t block = 0; block < layout.span; block += kWidth) {
          const Coefficients<kWidth> a(scales + at, block, layout.channels);
          const Coefficients<kWidth> b(shifts + at, block, layout.channels);
          layout.ForSpans(image, block, [&](int64_t offset, int64_t h) {
            const int64_t inside = frame.Displacement(layout, image, h) + offset;
            for (int i = 0; i < kWidth; ++i) {
              float value = Rectified<rectifies_x>(V::Load(from[offset + i]));
              value = value * a.value[i] + b.value[i];
              if (adds) value += V::Load(shortcut[offset + i]);
              if (rectifies) value = Where(value > 0.0f, value);
              to[offset + i] = V::Store(value);
              if (gives_signs) sign[inside + i] = value >= 0.0f ? one : minus_one;
            }
          });
        }
      });
    };
    WithConstant(rectify_, [&](auto rectifies_x) {
      WithConstant(add, [&](auto adds) {
        WithConstant(relu_, [&](auto rectifies) {
          WithConstant(signs, [&](auto gives_signs) {
            apply(rectifies_x, adds, rectifies, gives_signs);
          });
        });
      });
    });
  }
};

template <typename T>
class ScaleShiftGrad : public ScaleShiftKernel {
  using V = typename ValueOf<T>::Type;

 public:
  using ScaleShiftKernel::ScaleShiftKernel;

  void Compute(OpKernelContext* context) override {
    OpInputList upstream, framed;
    OP_REQUIRES_OK(context, context->input_list("upstream", &upstream));
    OP_REQUIRES_OK(context, context->input_list("signs", &framed));
    const int next = upstream.size() + framed.size();
    const Tensor& y = context->input(next);
    const Tensor& x = context->input(next + 1);
    const Tensor& scale = context->input(next + 2);
    REQUIRE(context, x.dims() == 4, "x must have 4 dimensions");
    REQUIRE(context, upstream.size() <= 2, "y may have at most two copies");
    const Layout layout(x);
    const Frame frame(padding_, layout.channels);
    for (const Tensor& gradient : upstream) {
      REQUIRE(context, gradient.shape() == x.shape(), "upstream must have the shape of x");
    }
    for (const Tensor& gradient : framed) {
      REQUIRE(context, gradient.shape() == frame.ShapeAround(x),
              "the gradient of the signs must have their shape");
    }
    REQUIRE(context, y.shape() == x.shape(), "y must have the shape of x");
    REQUIRE(context, Matches(scale, {layout.images, layout.channels}),
            "scale must have the shape (batch, channels)");
    Tensor *result, *scale_grad, *shift_grad, *shortcut_grad = nullptr;
    OP_REQUIRES_OK(context,
                   context->forward_input_or_allocate_output({0}, 0, x.shape(), &result));
    OP_REQUIRES_OK(context, context->allocate_output(1, scale.shape(), &scale_grad));
    OP_REQUIRES_OK(context, context->allocate_output(2, scale.shape(), &shift_grad));
    const bool add = context->num_outputs() > 3;
    if (add) OP_REQUIRES_OK(context, context->allocate_output(3, x.shape(), &shortcut_grad));

    const auto* first = Data<V>(upstream[0]);
    const auto* second = upstream.size() > 1 ? Data<V>(upstream[1]) : nullptr;
    const auto* sign = framed.size() ? Data<V>(framed[0]) : nullptr;
    const auto* outcome = Data<V>(y);
    const auto* from = Data<V>(x);
    const float* factors = scale.flat<float>().data();
    auto* to = Data<V>(result);
    auto* shortcut = add ? Data<V>(shortcut_grad) : nullptr;
    float* scales = scale_grad->flat<float>().data();
    float* shifts = shift_grad->flat<float>().data();
    const auto apply = [&](auto rectified_x, auto adds, auto rectified, auto gave_signs,
                           auto gave_copies) {
      layout.ForImages(context, [&](int64_t image, auto lanes) {
        constexpr int kWidth = decltype(lanes)::value;
        const int64_t at = image * layout.channels;
        std::fill_n(scales + at, layout.channels, 0.0f);
        std::fill_n(shifts + at, layout.channels, 0.0f);
        for (int64_t block = 0; block < layout.span; block += kWidth) {
          const Coefficients<kWidth> a(factors + at, block, layout.channels);
          Sums<kWidth> of_scale, of_shift;
          layout.ForSpans(image, block, [&](int64_t offset, int64_t h) {
            const int64_t inside = frame.Displacement(layout, image, h) + offset;
#pragma GCC ivdep  // more maps than the compiler would check for overlap
            for (int i = 0; i < kWidth; ++i) {
              float gradient = V::Load(first[offset + i]);
              if (gave_copies) gradient += V::Load(second[offset + i]);
              const float value = V::Load(outcome[offset + i]);
              if (gave_signs) {
                gradient += Where(std::abs(value) <= 1.0f, V::Load(sign[inside + i]));
              }
              if (rectified) gradient = Where(value > 0.0f, gradient);
              const float input = Rectified<rectified_x>(V::Load(from[offset + i]));
              of_shift.value[i] += gradient;
              of_scale.value[i] += gradient * input;
              if (adds) shortcut[offset + i] = V::Store(gradient);
              const float of_input = gradient * a.value[i];
              to[offset + i] = V::Store(Where(!rectified_x || !(input <= 0.0f), of_input));
            }
          });
          of_scale.AddTo(scales + at, block, layout.channels);
          of_shift.AddTo(shifts + at, block, layout.channels);
        }
      });
    };
    WithConstant(rectify_, [&](auto rectified_x) {
      WithConstant(add, [&](auto adds) {
        WithConstant(relu_, [&](auto rectified) {
          WithConstant(sign, [&](auto gave_signs) {
            WithConstant(second, [&](auto gave_copies) {
              apply(rectified_x, adds, rectified, gave_signs, gave_copies);
            });
          });
        });
      });
    });
  }
};

template <int kInput>
tensorflow::Status LikeInput(InferenceContext* context) {
  context->set_output(0, context->input(kInput));
  return tensorflow::OkStatus();
}

}  // namespace

REGISTER_OP("LarqSeresnetChannelSums")
    .Attr("T: {float, bfloat16}")
    .Attr("rectify: bool")
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
    .Attr("rectify: bool")
    .Input("upstream: T")
    .Input("x: T")
    .Input("sums: float")
    .Output("result: T")
    .SetShapeFn(LikeInput<1>);

REGISTER_OP("LarqSeresnetScaleShift")
    .Attr("T: {float, bfloat16}")
    .Attr("rectify: bool")
    .Attr("relu: bool")
    .Attr("copies: int >= 1")
    .Attr("padding: list(int)")
    .Attr("framed: int >= 0")
    .Attr("shortcuts: int >= 0")
    .Input("x: T")
    .Input("scale: float")
    .Input("shift: float")
    .Input("shortcut: shortcuts * T")
    .Output("y: copies * T")
    .Output("signs: framed * T")
    .SetShapeFn([](InferenceContext* context) {
      int copies;
      std::vector<int64_t> padding;
      TF_RETURN_IF_ERROR(context->GetAttr("copies", &copies));
      TF_RETURN_IF_ERROR(context->GetAttr("padding", &padding));
      const auto x = context->input(0);
      for (int i = 0; i < copies; ++i) context->set_output(i, x);
      if (context->num_outputs() > copies) {
        if (padding.size() != 4) return InvalidArgument("padding: top, bottom, left, right");
        tensorflow::shape_inference::DimensionHandle height, width;
        TF_RETURN_IF_ERROR(context->Add(context->Dim(x, 1), padding[0] + padding[1], &height));
        TF_RETURN_IF_ERROR(context->Add(context->Dim(x, 2), padding[2] + padding[3], &width));
        context->set_output(copies, context->MakeShape({context->Dim(x, 0), height, width,
                                                        context->Dim(x, 3)}));
      }
      return tensorflow::OkStatus();
    });

REGISTER_OP("LarqSeresnetScaleShiftGrad")
    .Attr("T: {float, bfloat16}")
    .Attr("rectify: bool")
    .Attr("relu: bool")
    .Attr("copies: int >= 1")
    .Attr("padding: list(int)")
    .Attr("framed: int >= 0")
    .Attr("shortcuts: int >= 0")
    .Input("upstream: copies * T")
    .Input("signs: framed * T")
    .Input("y: T")
    .Input("x: T")
    .Input("scale: float")
    .Output("x_grad: T")
    .Output("scale_grad: float")
    .Output("shift_grad: float")
    .Output("shortcut_grad: shortcuts * T")
    .SetShapeFn([](InferenceContext* context) {
      const int scale = context->num_inputs() - 1;
      context->set_output(0, context->input(scale - 1));
      context->set_output(1, context->input(scale));
      context->set_output(2, context->input(scale));
      for (int i = 3; i < context->num_outputs(); ++i) {
        context->set_output(i, context->input(scale - 1));
      }
      return tensorflow::OkStatus();
    });

#define REGISTER(name, type, ...)                                                                 \
  REGISTER_KERNEL_BUILDER(                                                                        \
      Name("LarqSeresnet" name).Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"),         \
      __VA_ARGS__)
#define REGISTER_ALL(type)                                       \
  REGISTER("ChannelSums", type, ChannelSums<type>);              \
  REGISTER("ChannelSumsGrad", type, ChannelSumsGrad<type>);      \
  REGISTER("ScaleShift", type, ScaleShift<type>);                \
  REGISTER("ScaleShiftGrad", type, ScaleShiftGrad<type>)
REGISTER_ALL(float);
REGISTER_ALL(bfloat16);
