// Trains a group of small networks at once: lane l of every vector belongs to model l.
//
// Nothing here ever mixes two lanes, so a model's result does not depend on which lane it lies in or on who lies beside
// it, and one that diverges to NaN disturbs no other.

#include "network.hpp"

// -- optimizers, in the order of operations of torch's ----------------------------------------------------------------

struct Rates {
    Ints sgd;
    Floats decay, remains;  // shares of the weight: added to the gradient; left of itself (AdamW)
    Floats lr, step_size, root_of_correction;
    Floats momentum, rest;  // rest: one minus Adam's first beta
};

static void update(const Rates& r, bool any_adam, bool any_sgd, int n, Floats* w, Floats* first, Floats* second,
                   const Floats* gradient) {
    for (int i = 0; i < n; i++) {
        Floats g = gradient[i] + r.decay * w[i], m = first[i], by_adam = {}, by_sgd = {}, m_adam = m, m_sgd = m;
        if (any_adam) {
            m_adam = m + r.rest * (g - m);
            second[i] = 0.999f * second[i] + 0.001f * g * g;
            by_adam = w[i] - r.step_size * m_adam / (root(second[i]) / r.root_of_correction + 1e-8f);
        }
        if (any_sgd) {
            m_sgd = r.momentum * m + g;
            by_sgd = w[i] - r.lr * m_sgd;
        }
        first[i] = r.sgd ? m_sgd : m_adam;
        w[i] = r.sgd ? by_sgd : by_adam;
    }
}

// -- what Python calls -----------------------------------------------------------------------------------------------

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

// What differs from model to model, laid out as in engine.py.
struct Lanes {
    double decoupled_decay[LANES];
    float decay[LANES];
    int32_t sgd[LANES];
    int32_t threshold[LANES];
    float scale[LANES];
    uint32_t key[2][LANES];
};

template <int A>
static void train(Network& net, int n_weights, Floats* w, Floats* first, Floats* second, Floats* gradient,
                  const Lanes& lanes, const double* lr, const double* momentum, const float* images,
                  const int32_t* labels, const int32_t* order, int n, int batch, uint32_t position, int64_t step,
                  double* loss, int64_t* right) {
    Rates rates;
    Dropout dropout;
    Bits key[2];
    bool any_sgd = false, any_adam = false, any_dropout = false, any_decoupled = false;
    for (int l = 0; l < LANES; l++) {
        rates.sgd[l] = lanes.sgd[l] ? -1 : 0;
        rates.decay[l] = lanes.decay[l];
        dropout.threshold[l] = lanes.threshold[l];
        dropout.scale[l] = lanes.scale[l];
        for (int i = 0; i < 2; i++) key[i][l] = lanes.key[i][l];
        (lanes.sgd[l] ? any_sgd : any_adam) = true;
        any_decoupled |= lanes.decoupled_decay[l] != 0;
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
        for (int l = 0; l < LANES; l++, lr++, momentum++) {
            rates.lr[l] = (float)*lr;
            rates.momentum[l] = (float)*momentum;
            rates.rest[l] = (float)(1 - *momentum);
            rates.step_size[l] = (float)(*lr / (1 - std::pow(*momentum, (double)step)));
            rates.remains[l] = (float)(1 - *lr * lanes.decoupled_decay[l]);
        }
        rates.root_of_correction = all((float)std::sqrt(1 - std::pow(0.999, (double)step)));
        // By itself, and not fused with the update: torch rounds in between, always to the same side where it decays less
        // than a float resolves.
        if (any_decoupled)
            for (int i = 0; i < n_weights; i++) w[i] *= rates.remains;
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

// Trains on n images in batches. `order` holds a row of LANES numbers for each of them; `lr` and `momentum`, one for
// each batch. `position` images and `step` steps came before these.
// Returns 0, or 1 where memory ran out.
int zoobench_train(const int32_t* table, int n_blocks, int activation, int n_weights, float* weights, float* first,
                   float* second, float* gradient, const void* lanes, const double* lr, const double* momentum,
                   const float* images, const int32_t* labels, const int32_t* order, int n, int batch,
                   uint32_t position, int64_t step, double* loss, int64_t* right) {
    NoDenormals guard;
    Network net((const Block*)table, n_blocks);
    if (!net.memory) return 1;
    const decltype(&train<TANH>) run[] = {train<TANH>, train<SIGMOID>, train<RELU>, train<GELU>};
    run[activation](net, n_weights, (Floats*)weights, (Floats*)first, (Floats*)second, (Floats*)gradient,
                    *(const Lanes*)lanes, lr, momentum, images, labels, order, n, batch, position, step, loss, right);
    return 0;
}

// Adds to loss and right those of n images, which all lanes see. Returns 0, or 1 where memory ran out.
int zoobench_evaluate(const int32_t* table, int n_blocks, int activation, const float* weights, const float* images,
                      const int32_t* labels, int n, double* loss, int64_t* right) {
    NoDenormals guard;
    Network net((const Block*)table, n_blocks);
    if (!net.memory) return 1;
    const decltype(&evaluate<TANH>) run[] = {evaluate<TANH>, evaluate<SIGMOID>, evaluate<RELU>, evaluate<GELU>};
    run[activation](net, (const Floats*)weights, images, labels, n, loss, right);
    return 0;
}
}
