// Convolutions of a group of models, whose sums stay in registers, and the gradients of their weights.

#pragma once

#include "vectors.hpp"

// O channels by X columns of an output row, from `rows` of the kernel's rows; sums stay in registers.
template <int O, int X>
static void tile(const Floats* __restrict in, int plane, int width, int n_in, int rows, int k,
                 const Floats* __restrict w, const Floats* bias, Floats* __restrict out, int out_plane) {
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
