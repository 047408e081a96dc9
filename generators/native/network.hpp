// A group of networks of one shape: forward with dropout, loss, and backward.

#pragma once

#include <cstdlib>
#include <cstring>

#include "convolution.hpp"

// The masks of dropout.py.

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

// What becomes of the convolution's output: all of it, the largest of each two by two, or the first of each two by two,
// which is a convolution with stride 2.
enum Reduction { ALL, LARGEST, FIRST };

// A block is a convolution (a linear layer is one with a single pixel), then reduction and activation with dropout if so
// asked, then the average over all pixels if so asked. These numbers are a row of the table that Python passes.
struct Block {
    int n_in, height, width, n_out, k, reduction, active, averaged, unit, weights, bias;

    int out_height() const { return height - k + 1; }
    int out_width() const { return width - k + 1; }
    int step() const { return reduction == ALL ? 1 : 2; }
    int reduced(int side) const { return reduction == FIRST ? (side + 1) / 2 : side / step(); }
    int end_height() const { return reduced(out_height()); }
    int end_width() const { return reduced(out_width()); }
    int end_size() const { return n_out * end_height() * end_width(); }
    int n_weights() const { return n_out * n_in * k * k; }
    // The gradient behind the convolution has k - 1 columns of zeros on both sides, for the convolution backwards.
    int padded_width() const { return out_width() + 2 * (k - 1); }
};

struct Place {
    Tiling forward, backward;
    Floats *row, *out, *mean, *slope, *gradient, *padded, *flipped;
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
    // What block i reads.
    const Floats* input(int i) const {
        return !i ? image : blocks[i - 1].averaged ? places[i - 1].mean : places[i - 1].out;
    }

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
            p.mean = take(b.averaged ? b.n_out : 0);
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
    for (int i = 0; i < net.n_blocks; i++) {
        const Block& b = net.blocks[i];
        Place& p = net.places[i];
        const Floats* in = net.input(i);
        const int width = b.out_width(), n = b.end_width(), n_rows = b.reduction == LARGEST ? 2 : 1;
        const Dropout* drop = b.unit >= 0 ? dropout : nullptr;
        for (int o = 0; o < b.n_out; o += p.forward.o) {
            int stop = o + p.forward.o < b.n_out ? o + p.forward.o : b.n_out;
            for (int y = 0; y < b.end_height(); y++) {
                for (int r = 0; r < n_rows; r++)
                    convolve_row(p.forward, in + (b.step() * y + r) * b.width, b.height * b.width, b.width, b.n_in, b.k,
                                 b.k, w + b.weights, 0, w + b.bias, o, stop, p.row + r * width, n_rows * width, width);
                for (int c = o; c < stop; c++) {
                    int at = (c * b.end_height() + y) * n;
                    const Floats* row = p.row + (c - o) * n_rows * width;
                    if (b.reduction == LARGEST)
                        pool(row, width, n, p.out + at, p.corner + at);
                    else if (b.reduction == FIRST)
                        for (int x = 0; x < n; x++) p.out[at + x] = row[2 * x];
                    else
                        std::memcpy((void*)(p.out + at), row, n * sizeof(Floats));
                    if (b.active) activate<A, TRAIN>(p.out + at, p.slope + at, n, drop, b.unit + at);
                }
            }
        }
        for (int c = 0; b.averaged && c < b.n_out; c++) {
            const int size = n * b.end_height();
            Floats sum = {};
            for (int q = 0; q < size; q++) sum += p.out[c * size + q];
            p.mean[c] = sum / (float)size;
        }
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
        const Floats* in = net.input(i);
        const Floats* g = i == net.n_blocks - 1 ? net.logits_gradient : p.gradient;
        const int height = b.out_height(), width = b.padded_width(), per_channel = b.n_in * b.k * b.k;
        const float share = 1.0f / (b.end_height() * b.end_width());
        int rows;
        WeightGradient add = weight_gradient_of(b.k, rows);
        for (int c = 0; c < b.n_out; c++) {
            Floats sum = {}, *to = p.padded + c * height * width + b.k - 1;
            for (int y = 0; y < b.end_height(); y++)
                for (int x = 0; x < b.end_width(); x++) {
                    int at = (c * b.end_height() + y) * b.end_width() + x;
                    Floats value = b.averaged ? g[c] * share : g[at];
                    if (b.active) value *= p.slope[at];
                    sum += value;
                    if (b.reduction != LARGEST) {
                        to[b.step() * (y * width + x)] = value;  // the others stay zero
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
                         stop - first, b.k, p.flipped, first, nullptr, 0, b.n_in,
                         net.places[i - 1].gradient + y * b.width, b.height * b.width, b.width);
        }
    }
}

// Weights as the convolution backwards wants them: channels swapped, kernels turned round.
static void flip(Network& net, const Floats* w) {
    for (int i = 1; i < net.n_blocks; i++) {
        const Block& b = net.blocks[i];
        const int kk = b.k * b.k;
        Floats* to = net.places[i].flipped;
        for (int o = 0; o < b.n_out; o++)
            for (int n = 0; n < b.n_in; n++)
                for (int t = 0; t < kk; t++)
                    to[(n * b.n_out + o) * kk + kk - 1 - t] = w[b.weights + (o * b.n_in + n) * kk + t];
    }
}
