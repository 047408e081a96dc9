// Trains a group of small networks at once: lane l of every vector belongs to model l.
//
// Nothing here ever mixes two lanes, so a model's result does not depend on which lane it lies in or on who lies beside
// it, and one that diverges to NaN disturbs no other. Vectors are those of GCC and Clang, as wide as the machine's.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
// Sums held in registers at a time, of 32 or 16 registers.
#if defined(__AVX512F__) || defined(__aarch64__)
#define SUMS 25
#else
#define SUMS 12
#endif

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));

static inline Floats all(float x) { return x - Floats{}; }
static inline Ints all(int32_t x) { return x - Ints{}; }

// -- functions of a vector: within two units in the last place; NaN stays NaN ------------------------------------------

static inline Floats root(Floats x) {
#if defined(__AVX512F__)
    return (Floats)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX__)
    return (Floats)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (Floats)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
    return (Floats)vsqrtq_f32((float32x4_t)x);
#else
    for (int l = 0; l < LANES; l++) x[l] = std::sqrt(x[l]);
    return x;
#endif
}

static inline Floats magnitude(Floats x) { return (Floats)((Ints)x & all(0x7fffffff)); }
static inline Floats with_sign_of(Floats x, Floats y) { return (Floats)((Ints)x | ((Ints)y & all(INT32_MIN))); }

static inline Floats exponential(Floats x) {
    // Comparisons this way round, so that NaN passes. The bounds lie where the result is infinite or zero already.
    x = (x > 89.0f) ? all(89.0f) : x;
    x = (x < -104.0f) ? all(-104.0f) : x;
    const Floats shift = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number, in the lowest bits
    Floats shifted = x * 1.44269504088896341f + shift, n = shifted - shift;
    Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats p = all(0.0013926391895325576f);
    p = p * r + 0.008363345810978539f;
    p = p * r + 0.04166655336265219f;
    p = p * r + 0.16666575985420856f;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    // Two halves of the exponent, since 2^n itself may lie outside the range of a float.
    Ints whole = (Ints)shifted - (Ints)shift, half = whole >> 1;
    return p * (Floats)((half + 127) << 23) * (Floats)((whole - half + 127) << 23);
}

static inline Floats tangent(Floats x) {
    Floats z = x * x, size = magnitude(x);
    Floats p = all(-0.0060967141633344836f);
    p = p * z + 0.02099717899673014f;
    p = p * z - 0.053850909577782546f;
    p = p * z + 0.13332769736967365f;
    p = p * z - 0.33333328944133916f;
    Floats near = p * z * x + x;
    Floats far = with_sign_of(1.0f - 2.0f / (exponential(2.0f * size) + 1.0f), x);
    return (size < 0.625f) ? near : far;
}

static inline Floats error_function(Floats x) {
    Floats z = x * x, size = magnitude(x);
    Floats p = all(7.875875111754535e-05f);
    p = p * z - 0.0008016864301591144f;
    p = p * z + 0.005189087425017241f;
    p = p * z - 0.026854212011422674f;
    p = p * z + 0.11283594715178236f;
    p = p * z - 0.3761262666672187f;
    Floats near = p * z * x + x * 0.128379167095512574f + x;
    Floats t = (size > 4.1f) ? all(4.1f) : size;
    Floats q = all(1.6069090230204912e-06f);
    q = q * t - 4.5485840061387825e-05f;
    q = q * t + 0.0005921924881701742f;
    q = q * t - 0.004738916681584639f;
    q = q * t + 0.026364786462047228f;
    q = q * t - 0.10998450660038392f;
    q = q * t - 0.6319246475241843f;
    q = q * t - 1.1301768256515379f;
    q = q * t + 0.0003062758594456483f;
    Floats far = with_sign_of(1.0f - exponential(q), x);
    return (size < 1.0f) ? near : far;
}

enum Activation { TANH, SIGMOID, RELU, GELU };

// Value, and slope at the same place.
template <int A>
static inline Floats activated(Floats x, Floats& slope) {
    if (A == TANH) {
        Floats y = tangent(x);
        slope = 1.0f - y * y;
        return y;
    }
    if (A == SIGMOID) {
        Floats y = 1.0f / (1.0f + exponential(-x));
        slope = y * (1.0f - y);
        return y;
    }
    if (A == RELU) {
        slope = (x <= 0.0f) ? Floats{} : all(1.0f);
        return (x <= 0.0f) ? Floats{} : x;
    }
    Floats cdf = 0.5f + 0.5f * error_function(x * 0.70710678118654752f);
    slope = cdf + x * 0.39894228040143268f * exponential(-0.5f * x * x);
    return x * cdf;
}

// -- dropout: the masks of generators/dropout.py -----------------------------------------------------------------------

static inline Bits mixed(Bits h) {
    h ^= h >> 16;
    h *= 0x21f0aaadu;
    h ^= h >> 15;
    h *= 0x735a2d97u;
    return h ^ (h >> 15);
}

struct Dropout {
    Ints threshold;
    Floats scale;
    Bits image;  // differs from image to image
    inline Floats mask(uint32_t unit) const {
        Bits h = mixed(image + unit * 0x9e3779b9u);
        return ((Ints)(h >> 8) >= threshold) ? scale : Floats{};
    }
};

// -- convolution -------------------------------------------------------------------------------------------------------

// O channels by X columns of an output row, from `rows` of the kernel's rows; sums stay in registers.
template <int O, int X>
static void tile(const Floats* __restrict in, int plane, int width, int n_in, int rows, int k, const Floats* __restrict w,
                 const Floats* bias, Floats* __restrict out, int out_plane) {
    Floats sum[O][X];
    for (int o = 0; o < O; o++)
        for (int x = 0; x < X; x++) sum[o][x] = bias ? bias[o] : Floats{};
    const int per_channel = n_in * k * k;
    for (int i = 0; i < n_in; i++)
        for (int ky = 0; ky < rows; ky++) {
            const Floats* source = in + i * plane + ky * width;
            const Floats* weight = w + (i * k + ky) * k;
            for (int kx = 0; kx < k; kx++)
#pragma GCC unroll 16
                for (int o = 0; o < O; o++) {
                    Floats factor = weight[o * per_channel + kx];
#pragma GCC unroll 16
                    for (int x = 0; x < X; x++) sum[o][x] += factor * source[kx + x];
                }
        }
    for (int o = 0; o < O; o++)
        for (int x = 0; x < X; x++) out[o * out_plane + x] = sum[o][x];
}

using Tile = decltype(&tile<1, 1>);
constexpr int MAX_O = 4, MAX_X = 8;

template <int O>
static Tile tile_of(int x) {
    switch (x) {
        case 1: return tile<O, 1>;
        case 2: return tile<O, 2>;
        case 3: return tile<O, 3>;
        case 4: return tile<O, 4>;
        case 5: return tile<O, 5>;
        case 6: return tile<O, 6>;
        case 7: return tile<O, 7>;
        default: return tile<O, 8>;
    }
}

static Tile tile_of(int o, int x) {
    switch (o) {
        case 1: return tile_of<1>(x);
        case 2: return tile_of<2>(x);
        case 3: return tile_of<3>(x);
        default: return tile_of<4>(x);
    }
}

// The shape of tiles that computes a row of n_out channels in the fewest instructions.
struct Tiling {
    int o = 1, x = 1;
    Tiling() = default;
    Tiling(int n_out, int columns) {
        int best = INT32_MAX;
        for (int i = 1; i <= MAX_O; i++)
            for (int j = 1; j <= MAX_X; j++) {
                if (i * j >= SUMS) continue;
                // Fewer than eight sums wait for each other's latency.
                int cost = ((n_out + i - 1) / i) * ((columns + j - 1) / j) * ((i * j < 8 ? 8 : i * j) + i + j);
                if (cost < best) best = cost, o = i, x = j;
            }
    }
};

// One row of output of the channels o0 to o1.
static void convolve_row(const Tiling& t, const Floats* in, int plane, int width, int n_in, int rows, int k,
                         const Floats* w, int row_of_kernel, const Floats* bias, int o0, int o1, Floats* out,
                         int out_plane, int columns) {
    for (int o = o0; o < o1; o += t.o) {
        int no = o1 - o < t.o ? o1 - o : t.o;
        for (int x = 0; x < columns; x += t.x) {
            int nx = columns - x < t.x ? columns - x : t.x;
            tile_of(no, nx)(in + x, plane, width, n_in, rows, k, w + o * n_in * k * k + row_of_kernel * k,
                            bias ? bias + o : nullptr, out + (o - o0) * out_plane + x, out_plane);
        }
    }
}

// Adds to the gradient of Y rows of a K x K kernel of one output and one input channel.
template <int Y, int K>
static void weight_gradient(const Floats* __restrict in, int width, const Floats* __restrict g, int g_width, int height,
                            int columns, Floats* __restrict out) {
    Floats sum[Y][K] = {};
    for (int y = 0; y < height; y++) {
        const Floats* source[Y];
        for (int ky = 0; ky < Y; ky++) source[ky] = in + (y + ky) * width;
        for (int x = 0; x < columns; x++) {
            Floats factor = g[y * g_width + x];
#pragma GCC unroll 16
            for (int ky = 0; ky < Y; ky++) {
#pragma GCC unroll 16
                for (int kx = 0; kx < K; kx++) sum[ky][kx] += factor * source[ky][kx];
                source[ky]++;
            }
        }
    }
    for (int ky = 0; ky < Y; ky++)
        for (int kx = 0; kx < K; kx++) out[ky * K + kx] += sum[ky][kx];
}

using WeightGradient = decltype(&weight_gradient<1, 1>);

// For kernels of up to five columns: all rows at once where the sums fit into the registers, else row by row.
static WeightGradient weight_gradient_of(int k, int& rows) {
    constexpr bool many = SUMS == 25;
    switch (k) {
        case 1: rows = 1; return weight_gradient<1, 1>;
        case 2: rows = 2; return weight_gradient<2, 2>;
        case 3: rows = 3; return weight_gradient<3, 3>;
        case 4: rows = many ? 4 : 2; return many ? weight_gradient<4, 4> : weight_gradient<2, 4>;
        default: rows = many ? 5 : 1; return many ? weight_gradient<5, 5> : weight_gradient<1, 5>;
    }
}

// -- networks ----------------------------------------------------------------------------------------------------------

// A block is a convolution (a linear layer is one with a single pixel), then pooling and activation with dropout if so
// asked. The first ten numbers are a row of the table that Python passes.
struct Block {
    int n_in, height, width, n_out, k, pooled, active, unit, weights, bias;

    int out_height() const { return height - k + 1; }
    int out_width() const { return width - k + 1; }
    int end_height() const { return pooled ? out_height() / 2 : out_height(); }
    int end_width() const { return pooled ? out_width() / 2 : out_width(); }
    int end_size() const { return n_out * end_height() * end_width(); }
    int n_weights() const { return n_out * n_in * k * k; }
    // The gradient behind the convolution has k - 1 columns of zeros on both sides, for the convolution backwards.
    int padded_width() const { return out_width() + 2 * (k - 1); }
};

struct Place {
    Tiling forward, backward;
    Floats *row, *out, *slope, *gradient, *padded, *flipped;
    Ints* corner;
};

constexpr int MAX_BLOCKS = 16;

struct Network {
    const Block* blocks;
    int n_blocks;
    Place places[MAX_BLOCKS];
    Floats *image, *logits_gradient;
    char* memory = nullptr;

    Network(const Block* blocks, int n_blocks) : blocks(blocks), n_blocks(n_blocks) {
        int64_t size = lay_out(nullptr) + 64;
        memory = (char*)std::calloc(size, 1);  // zeros: nobody writes to the columns beside the gradients
        if (memory) lay_out((char*)(((uintptr_t)memory + 63) & ~(uintptr_t)63));
    }
    ~Network() { std::free(memory); }
    Network(const Network&) = delete;

    int n_classes() const { return blocks[n_blocks - 1].n_out; }

    int64_t lay_out(char* base) {
        int64_t used = 0;
        auto take = [&](int64_t n) {
            Floats* at = (Floats*)(base + used * (int64_t)sizeof(Floats));
            used += n;
            return at;
        };
        image = take(blocks[0].n_in * blocks[0].height * blocks[0].width);
        logits_gradient = take(n_classes());
        for (int i = 0; i < n_blocks; i++) {
            const Block& b = blocks[i];
            Place& p = places[i];
            p.forward = Tiling(b.n_out, b.out_width());
            p.backward = Tiling(b.n_in, b.width);
            p.row = take(MAX_O * 2 * b.out_width());
            p.out = take(b.end_size());
            p.slope = take(b.end_size());
            p.gradient = take(b.end_size());
            p.padded = take(b.n_out * b.out_height() * b.padded_width());
            p.flipped = take(b.n_weights());
            p.corner = (Ints*)take(b.end_size());
        }
        return used * (int64_t)sizeof(Floats);
    }
};

template <int A, bool TRAIN>
static void activate(Floats* values, Floats* slope, int n, const Dropout* dropout, uint32_t unit) {
    for (int i = 0; i < n; i++) {
        Floats s, y = activated<A>(values[i], s);
        if (TRAIN && dropout) {
            Floats mask = dropout->mask(unit + i);
            y *= mask;
            s *= mask;
        }
        values[i] = y;
        if (TRAIN) slope[i] = s;
    }
}

// The largest of each two by two, as torch picks it: the first of equals, the last NaN.
static void pool(const Floats* rows, int width, int n, Floats* out, Ints* corner) {
    for (int x = 0; x < n; x++) {
        const Floats* at = rows + 2 * x;
        const Floats others[3] = {at[1], at[width], at[width + 1]};
        Floats largest = at[0];
        Ints which = {};
        for (int i = 0; i < 3; i++) {
            Ints better = (others[i] > largest) | (others[i] != others[i]);
            largest = better ? others[i] : largest;
            which = better ? all(i + 1) : which;
        }
        out[x] = largest;
        corner[x] = which;
    }
}

template <int A, bool TRAIN>
static void forward(Network& net, const Floats* w, const Dropout* dropout) {
    const Floats* in = net.image;
    for (int i = 0; i < net.n_blocks; i++) {
        const Block& b = net.blocks[i];
        Place& p = net.places[i];
        const int width = b.out_width(), n = b.end_width(), n_rows = b.pooled ? 2 : 1;
        const Dropout* drop = b.unit >= 0 ? dropout : nullptr;
        for (int o = 0; o < b.n_out; o += p.forward.o) {
            int stop = o + p.forward.o < b.n_out ? o + p.forward.o : b.n_out;
            for (int y = 0; y < b.end_height(); y++) {
                for (int r = 0; r < n_rows; r++)
                    convolve_row(p.forward, in + (n_rows * y + r) * b.width, b.height * b.width, b.width, b.n_in, b.k,
                                 b.k, w + b.weights, 0, w + b.bias, o, stop, p.row + r * width, n_rows * width, width);
                for (int c = o; c < stop; c++) {
                    int at = (c * b.end_height() + y) * n;
                    const Floats* row = p.row + (c - o) * n_rows * width;
                    if (b.pooled)
                        pool(row, width, n, p.out + at, p.corner + at);
                    else
                        std::memcpy((void*)(p.out + at), row, n * sizeof(Floats));
                    if (b.active) activate<A, TRAIN>(p.out + at, p.slope + at, n, drop, b.unit + at);
                }
            }
        }
        in = p.out;
    }
}

// Negative log-likelihood and right answers of one image, added up; `gradient` times `factor` of the logits.
static void criterion(const Network& net, Ints label, float factor, double* loss, int64_t* right) {
    const int n = net.n_classes();
    const Floats* logits = net.places[net.n_blocks - 1].out;
    Floats largest = logits[0], at_label = {}, sum = {};
    Ints best = {};
    for (int o = 1; o < n; o++) {
        Ints better = (logits[o] > largest) | ((logits[o] != logits[o]) & (largest == largest));
        largest = better ? logits[o] : largest;
        best = better ? all(o) : best;
    }
    for (int o = 0; o < n; o++) {
        at_label = (label == all(o)) ? logits[o] : at_label;
        net.logits_gradient[o] = exponential(logits[o] - largest);
        sum += net.logits_gradient[o];
    }
    for (int o = 0; o < n; o++)
        net.logits_gradient[o] =
            (net.logits_gradient[o] / sum - ((label == all(o)) ? all(1.0f) : Floats{})) * factor;
    for (int l = 0; l < LANES; l++) {
        loss[l] += std::log(sum[l]) - (at_label[l] - largest[l]);
        right[l] += best[l] == label[l];
    }
}

// Adds the gradients of all weights. `logits_gradient` is that of the last block's output.
static void backward(Network& net, Floats* total) {
    for (int i = net.n_blocks - 1; i >= 0; i--) {
        const Block& b = net.blocks[i];
        Place& p = net.places[i];
        const Floats* in = i ? net.places[i - 1].out : net.image;
        const Floats* g = i == net.n_blocks - 1 ? net.logits_gradient : p.gradient;
        const int height = b.out_height(), width = b.padded_width(), per_channel = b.n_in * b.k * b.k;
        int rows;
        WeightGradient add = weight_gradient_of(b.k, rows);
        for (int c = 0; c < b.n_out; c++) {
            Floats sum = {}, *to = p.padded + c * height * width + b.k - 1;
            for (int y = 0; y < b.end_height(); y++)
                for (int x = 0; x < b.end_width(); x++) {
                    int at = (c * b.end_height() + y) * b.end_width() + x;
                    Floats value = b.active ? g[at] * p.slope[at] : g[at];
                    sum += value;
                    if (!b.pooled) {
                        to[y * width + x] = value;
                        continue;
                    }
                    Floats* corner = to + 2 * y * width + 2 * x;
                    Ints which = p.corner[at];
                    corner[0] = (which == all(0)) ? value : Floats{};
                    corner[1] = (which == all(1)) ? value : Floats{};
                    corner[width] = (which == all(2)) ? value : Floats{};
                    corner[width + 1] = (which == all(3)) ? value : Floats{};
                }
            total[b.bias + c] += sum;
            Floats* out = total + b.weights + c * per_channel;
            for (int n = 0; n < b.n_in; n++)
                for (int ky = 0; ky < b.k; ky += rows)
                    add(in + (n * b.height + ky) * b.width, b.width, to, width, height, b.out_width(),
                        out + (n * b.k + ky) * b.k);
        }
        if (!i) return;
        for (int y = 0; y < b.height; y++) {
            // Only the kernel's rows that meet a row of the gradient.
            int first = y < b.k - 1 ? b.k - 1 - y : 0;
            int stop = y > height - 1 ? height + b.k - 1 - y : b.k;
            convolve_row(p.backward, p.padded + (y + first - b.k + 1) * width, height * width, width, b.n_out,
                         stop - first, b.k, p.flipped, first, nullptr, 0, b.n_in, net.places[i - 1].gradient + y * b.width,
                         b.height * b.width, b.width);
        }
    }
}

// Weights as the convolution backwards wants them: channels swapped, kernels turned round.
static void flip(Network& net, const Floats* w) {
    for (int i = 1; i < net.n_blocks; i++) {
        const Block& b = net.blocks[i];
        const int kk = b.k * b.k;
        for (int o = 0; o < b.n_out; o++)
            for (int n = 0; n < b.n_in; n++)
                for (int t = 0; t < kk; t++)
                    net.places[i].flipped[(n * b.n_out + o) * kk + kk - 1 - t] = w[b.weights + (o * b.n_in + n) * kk + t];
    }
}

// -- optimizers, in the order of operations of torch's -----------------------------------------------------------------

struct Rates {
    Ints sgd;
    Floats decay, lr, step_size, root_of_correction;
};

static void update(const Rates& r, bool any_adam, bool any_sgd, int n, Floats* w, Floats* first, Floats* second,
                   const Floats* gradient) {
    for (int i = 0; i < n; i++) {
        Floats g = gradient[i] + r.decay * w[i], m = first[i], by_adam = {}, by_sgd = {}, m_adam = m, m_sgd = m;
        if (any_adam) {
            m_adam = m + 0.1f * (g - m);
            second[i] = 0.999f * second[i] + 0.001f * g * g;
            by_adam = w[i] - r.step_size * m_adam / (root(second[i]) / r.root_of_correction + 1e-8f);
        }
        if (any_sgd) {
            m_sgd = 0.9f * m + g;
            by_sgd = w[i] - r.lr * m_sgd;
        }
        first[i] = r.sgd ? m_sgd : m_adam;
        w[i] = r.sgd ? by_sgd : by_adam;
    }
}

// -- what Python calls -------------------------------------------------------------------------------------------------

// Gradients of dead units and moments that fade become denormal numbers, which many processors compute with a hundred
// times more slowly; they count as zero while the engine runs.
struct NoDenormals {
#if defined(__SSE2__)
    unsigned before = _mm_getcsr();
    NoDenormals() { _mm_setcsr(before | 0x8040); }
    ~NoDenormals() { _mm_setcsr(before); }
#else
    NoDenormals() {}
#endif
};

// A settings' block: what differs from lane to lane.
struct Lanes {
    double lr[LANES];
    float decay[LANES];
    int32_t sgd[LANES];
    int32_t threshold[LANES];
    float scale[LANES];
    uint32_t key[2][LANES];
};

template <int A>
static void train(Network& net, int n_weights, Floats* w, Floats* first, Floats* second, Floats* gradient,
                  const Lanes& lanes, const float* images, const int32_t* labels, const int32_t* order, int n, int batch,
                  uint32_t position, int64_t step, double* loss, int64_t* right) {
    Rates rates;
    Dropout dropout;
    Bits key[2];
    bool any_sgd = false, any_adam = false, any_dropout = false;
    for (int l = 0; l < LANES; l++) {
        rates.sgd[l] = lanes.sgd[l] ? -1 : 0;
        rates.decay[l] = lanes.decay[l];
        rates.lr[l] = (float)lanes.lr[l];
        dropout.threshold[l] = lanes.threshold[l];
        dropout.scale[l] = lanes.scale[l];
        for (int i = 0; i < 2; i++) key[i][l] = lanes.key[i][l];
        (lanes.sgd[l] ? any_sgd : any_adam) = true;
        any_dropout |= lanes.threshold[l] > 0;
    }
    const int pixels = net.blocks[0].n_in * net.blocks[0].height * net.blocks[0].width;
    for (int start = 0; start < n; start += batch) {
        const int size = n - start < batch ? n - start : batch;
        std::memset((void*)gradient, 0, n_weights * sizeof(Floats));
        flip(net, w);
        for (int i = start; i < start + size; i++, position++) {
            Ints label;
            const int32_t* row = order + (int64_t)i * LANES;
            for (int l = 0; l < LANES; l++) label[l] = labels[row[l]];
            float* to = (float*)net.image;
            // In pieces, so that what all lanes write stays in the cache.
            for (int q0 = 0; q0 < pixels; q0 += 64)
                for (int l = 0; l < LANES; l++) {
                    const float* from = images + (int64_t)row[l] * pixels;
                    for (int q = q0; q < (q0 + 64 < pixels ? q0 + 64 : pixels); q++) to[q * LANES + l] = from[q];
                }
            dropout.image = mixed(mixed(key[0] + position) + key[1]);
            forward<A, true>(net, w, any_dropout ? &dropout : nullptr);
            criterion(net, label, 1.0f / size, loss, right);
            backward(net, gradient);
        }
        step++;
        for (int l = 0; l < LANES; l++)
            rates.step_size[l] = (float)(lanes.lr[l] / (1 - std::pow(0.9, (double)step)));
        rates.root_of_correction = all((float)std::sqrt(1 - std::pow(0.999, (double)step)));
        update(rates, any_adam, any_sgd, n_weights, w, first, second, gradient);
    }
}

template <int A>
static void evaluate(Network& net, const Floats* w, const float* images, const int32_t* labels, int n, double* loss,
                     int64_t* right) {
    const int pixels = net.blocks[0].n_in * net.blocks[0].height * net.blocks[0].width;
    for (int i = 0; i < n; i++) {
        for (int q = 0; q < pixels; q++) net.image[q] = all(images[(int64_t)i * pixels + q]);
        forward<A, false>(net, w, nullptr);
        criterion(net, all(labels[i]), 1.0f, loss, right);
    }
}

extern "C" {

int zoobench_lanes() { return LANES; }

// n images in the order given (lane by lane), in batches. `position` images and `step` steps were trained before.
// Returns 0, or 1 where memory ran out.
int zoobench_train(const int32_t* table, int n_blocks, int activation, int n_weights, float* weights, float* first,
                   float* second, float* gradient, const void* lanes, const float* images, const int32_t* labels,
                   const int32_t* order, int n, int batch, uint32_t position, int64_t step, double* loss,
                   int64_t* right) {
    NoDenormals guard;
    Network net((const Block*)table, n_blocks);
    if (!net.memory) return 1;
    auto run = activation == TANH ? train<TANH> : activation == SIGMOID ? train<SIGMOID> : activation == RELU ? train<RELU> : train<GELU>;
    run(net, n_weights, (Floats*)weights, (Floats*)first, (Floats*)second, (Floats*)gradient, *(const Lanes*)lanes,
        images, labels, order, n, batch, position, step, loss, right);
    return 0;
}

// Sums over n images, which all lanes see.
int zoobench_evaluate(const int32_t* table, int n_blocks, int activation, const float* weights, const float* images,
                      const int32_t* labels, int n, double* loss, int64_t* right) {
    NoDenormals guard;
    Network net((const Block*)table, n_blocks);
    if (!net.memory) return 1;
    auto run = activation == TANH ? evaluate<TANH> : activation == SIGMOID ? evaluate<SIGMOID> : activation == RELU ? evaluate<RELU> : evaluate<GELU>;
    run(net, (const Floats*)weights, images, labels, n, loss, right);
    return 0;
}
}
