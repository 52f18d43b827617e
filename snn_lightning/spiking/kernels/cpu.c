/* Integrate-and-fire neurons with soft reset, in one pass over the currents; their gradients; and sums over
 * activations.
 *
 * Currents and spikes lie as [steps, images, places] in memory; a place is a position of one image's
 * activation, in whatever order its dimensions lie. A block of places keeps its potentials in the fastest
 * cache for all time steps. Additions and comparisons come in the order of the plain PyTorch version, so that
 * the spikes are the same bit for bit; compile without -ffast-math.
 */
#include <stdint.h>
#include <string.h>

#define BLOCK 1024
#define GROUP 64
#define LANES 32

typedef int64_t whole;

/* Eight bytes of 0 or 1 to the eight bits of one byte, the first byte to the lowest bit. */
static inline uint8_t gather_bits(const uint8_t *fired) {
    uint64_t eight;
    memcpy(&eight, fired, 8);
    return (uint8_t)((eight * 0x0102040810204080ULL) >> 56);
}

#define DEFINE(REAL, BITS, SUFFIX)                                                                            \
                                                                                                              \
/* current: [steps, images, places]; time_stride is 0 where every step has the same current.                  \
 * start: potentials before the first step; start_stride is 0 where all images start alike.                   \
 * v_th, bias: [places].                                                                                      \
 * Outputs, each NULL where it isn't wanted: spikes [steps, images, places], which may be the currents;       \
 * end, the potentials after the last step, [images, places]; counts, the spikes of each neuron,              \
 * [images, places]; bits [steps, images, (places + 7) / 8]. */                                               \
void integrate_and_fire_##SUFFIX(const REAL *current, whole time_stride, const REAL *start,                   \
                                 whole start_stride, const REAL *v_th, const REAL *bias, whole steps,         \
                                 whole images, whole places, REAL *spikes, REAL *end, REAL *counts,           \
                                 uint8_t *bits, int threads) {                                                \
    const whole blocks = (places + BLOCK - 1) / BLOCK, row = (places + 7) / 8;                                \
    _Pragma("omp parallel for collapse(2) num_threads(threads) schedule(static) if (threads > 1)")            \
    for (whole block = 0; block < blocks; block++) {                                                          \
        for (whole n = 0; n < images; n++) {                                                                  \
            const whole first = block * BLOCK;                                                                \
            const whole size = places - first < BLOCK ? places - first : BLOCK;                               \
            const REAL *th = v_th + first, *b = bias + first;                                                 \
            REAL v[BLOCK], count[BLOCK];                                                                      \
            uint8_t fired[BLOCK + 8];                                                                         \
            memcpy(v, start + n * start_stride + first, size * sizeof(REAL));                                 \
            if (counts) memset(count, 0, sizeof count);                                                       \
            memset(fired + size, 0, 8);                                                                       \
            for (whole t = 0; t < steps; t++) {                                                               \
                const REAL *in = current + t * time_stride + n * places + first;                              \
                if (spikes) {                                                                                 \
                    REAL *out = spikes + (t * images + n) * places + first;                                   \
                    for (whole i = 0; i < size; i++) {                                                        \
                        const REAL x = v[i] + (in[i] + b[i]);                                                 \
                        const REAL s = x >= th[i] ? th[i] : (REAL)0;                                          \
                        v[i] = x - s;                                                                         \
                        out[i] = s;                                                                           \
                    }                                                                                         \
                } else {                                                                                      \
                    for (whole i = 0; i < size; i++) {                                                        \
                        const REAL x = v[i] + (in[i] + b[i]);                                                 \
                        const int fires = x >= th[i];                                                         \
                        v[i] = x - (fires ? th[i] : (REAL)0);                                                 \
                        count[i] += fires ? (REAL)1 : (REAL)0;                                                \
                        fired[i] = (uint8_t)fires;                                                            \
                    }                                                                                         \
                    if (bits) {                                                                               \
                        uint8_t *packed = bits + (t * images + n) * row + first / 8;                          \
                        for (whole i = 0; i < (size + 7) / 8; i++) packed[i] = gather_bits(fired + 8 * i);    \
                    }                                                                                         \
                }                                                                                             \
            }                                                                                                 \
            if (counts) memcpy(counts + n * places + first, count, size * sizeof(REAL));                      \
            if (end) memcpy(end + n * places + first, v, size * sizeof(REAL));                                \
        }                                                                                                     \
    }                                                                                                         \
}                                                                                                             \
                                                                                                              \
/* Gradients of integrate_and_fire, backward in time; the number of spikes has the derivative                 \
 * max(0, 1 - |v / v_th - 1|), as surrogate.py tells.                                                         \
 * gradient: of the spikes, [steps, images, places]; after: of the last potentials, [images, places], and on  \
 * return of the first. Outputs: to_current [steps, images, places], to_v_th [images, places]. */             \
void backward_##SUFFIX(const REAL *current, whole time_stride, const REAL *start, whole start_stride,         \
                       const REAL *v_th, const REAL *bias, whole steps, whole images, whole places,           \
                       const REAL *gradient, REAL *after, REAL *to_current, REAL *to_v_th, int threads) {     \
    const whole blocks = (places + BLOCK - 1) / BLOCK, time = images * places;                                \
    _Pragma("omp parallel for collapse(2) num_threads(threads) schedule(static) if (threads > 1)")            \
    for (whole block = 0; block < blocks; block++) {                                                          \
        for (whole n = 0; n < images; n++) {                                                                  \
            const whole first = block * BLOCK, here = n * places + first;                                     \
            const whole size = places - first < BLOCK ? places - first : BLOCK;                               \
            const REAL *th = v_th + first, *b = bias + first;                                                 \
            REAL v[BLOCK], to_th[BLOCK];                                                                      \
            memcpy(v, start + n * start_stride + first, size * sizeof(REAL));                                 \
            memset(to_th, 0, sizeof to_th);                                                                   \
            for (whole t = 0; t < steps; t++) {                                                               \
                const REAL *in = current + t * time_stride + here;                                            \
                REAL *level = to_current + t * time + here;                                                   \
                for (whole i = 0; i < size; i++) {                                                            \
                    const REAL x = v[i] + (in[i] + b[i]);                                                     \
                    v[i] = x - (x >= th[i] ? th[i] : (REAL)0);                                                \
                    level[i] = x / th[i];                                                                     \
                }                                                                                             \
            }                                                                                                 \
            for (whole t = steps - 1; t >= 0; t--) {                                                          \
                const REAL *g = gradient + t * time + here;                                                   \
                REAL *out = to_current + t * time + here, *a = after + here;                                  \
                for (whole i = 0; i < size; i++) {                                                            \
                    const REAL level = out[i], fired = level >= (REAL)1 ? (REAL)1 : (REAL)0;                  \
                    const REAL side = level < (REAL)2 - level ? level : (REAL)2 - level;                      \
                    const REAL slope = side > (REAL)0 ? side : (REAL)0, to_spike = g[i] - a[i];               \
                    to_th[i] += to_spike * (fired - slope * level);                                           \
                    a[i] += to_spike * slope;                                                                 \
                    out[i] = a[i];                                                                            \
                }                                                                                             \
            }                                                                                                 \
            memcpy(to_v_th + here, to_th, size * sizeof(REAL));                                               \
        }                                                                                                     \
    }                                                                                                         \
}                                                                                                             \
                                                                                                              \
/* bits [rows, (places + 7) / 8] to spikes [rows, places] of the value v_th [places]. */                      \
void unpack_##SUFFIX(const uint8_t *bits, const REAL *v_th, whole rows, whole places, REAL *spikes,           \
                     int threads) {                                                                           \
    const whole row = (places + 7) / 8;                                                                       \
    _Pragma("omp parallel for num_threads(threads) schedule(static) if (threads > 1)")                        \
    for (whole r = 0; r < rows; r++) {                                                                        \
        const uint8_t *in = bits + r * row;                                                                   \
        BITS *out = (BITS *)(spikes + r * places);                                                            \
        const BITS *value = (const BITS *)v_th;                                                               \
        for (whole i = 0; i < places / 8; i++) {                                                              \
            const BITS byte = in[i];                                                                          \
            for (int k = 0; k < 8; k++) out[8 * i + k] = value[8 * i + k] & (0 - ((byte >> k) & 1));          \
        }                                                                                                     \
        for (whole i = places / 8 * 8; i < places; i++)                                                       \
            out[i] = value[i] & (0 - (((BITS)in[i / 8] >> (i % 8)) & 1));                                     \
    }                                                                                                         \
}                                                                                                             \
                                                                                                              \
/* Adds n activations to histograms of pairs: how many positive ones are in the bin, and their sum. Activation\
 * i belongs to histogram line[i * step] and has scale[i * step] bins a unit. What isn't positive adds nothing\
 * to the first bin: half of all activations are zero, and a branch that is taken every other time is slow. */\
static inline void add_##SUFFIX(const REAL *x, whole n, const int32_t *line, const REAL *scale, int step,     \
                                whole bins, double *table) {                                                  \
    int32_t bin[GROUP];                                                                                       \
    REAL one[GROUP], value[GROUP];                                                                            \
    for (whole i = 0; i < n; i++) {                                                                           \
        one[i] = x[i] > 0 ? (REAL)1 : (REAL)0;                                                                \
        value[i] = x[i] > 0 ? x[i] : (REAL)0;                                                                 \
        const REAL position = value[i] * scale[i * step];                                                     \
        bin[i] = (int32_t)(position < (REAL)(bins - 1) ? position : (REAL)(bins - 1));                        \
    }                                                                                                         \
    for (whole i = 0; i < n; i++) {                                                                           \
        double *entry = table + 2 * (line[i * step] * bins + bin[i]);                                         \
        entry[0] += (double)one[i];                                                                           \
        entry[1] += (double)value[i];                                                                         \
    }                                                                                                         \
}                                                                                                             \
                                                                                                              \
/* Adds activations [outer, channels, inner] to histograms, table [lines, bins, 2]; line and scale: [channels].\
 * A few channels at a time, so that their histograms stay in the cache. */                                   \
void histogram_##SUFFIX(const REAL *x, const int32_t *line, const REAL *scale, whole outer, whole channels,   \
                        whole inner, whole bins, double *table) {                                             \
    for (whole first = 0; first < channels; first += 16) {                                                    \
        const whole some = channels - first < 16 ? channels - first : 16;                                     \
        for (whole o = 0; o < outer; o++) {                                                                   \
            const REAL *in = x + (o * channels + first) * inner;                                              \
            if (inner == 1) {                                                                                 \
                add_##SUFFIX(in, some, line + first, scale + first, 1, bins, table);                          \
                continue;                                                                                     \
            }                                                                                                 \
            for (whole c = 0; c < some; c++)                                                                  \
                for (whole i = 0; i < inner; i += GROUP)                                                      \
                    add_##SUFFIX(in + c * inner + i, inner - i < GROUP ? inner - i : GROUP, line + first + c, \
                                 scale + first + c, 0, bins, table);                                          \
        }                                                                                                     \
    }                                                                                                         \
}                                                                                                             \
                                                                                                              \
/* Sums [3, LANES] over rows of x - y, (x - y)^2 and x^2; without y of x^2 alone, and the rows' maxima. */    \
static inline void lanes_##SUFFIX(const REAL *x, const REAL *y, whole rows, whole stride, whole width,        \
                           double *sums, REAL *maxima) {                                                      \
    double error[LANES] = {0}, squares[LANES] = {0}, norms[LANES] = {0};                                      \
    for (whole r = 0; r < rows; r++) {                                                                        \
        const REAL *in = x + r * stride, *other = y ? y + r * stride : x;                                     \
        for (whole i = 0; i < width; i++) {                                                                   \
            const double value = in[i];                                                                       \
            norms[i] += value * value;                                                                        \
            if (y) {                                                                                          \
                const double off = (REAL)(in[i] - other[i]);                                                  \
                error[i] += off;                                                                              \
                squares[i] += off * off;                                                                      \
            } else {                                                                                          \
                maxima[i] = in[i] > maxima[i] || in[i] != in[i] ? in[i] : maxima[i];                          \
            }                                                                                                 \
        }                                                                                                     \
    }                                                                                                         \
    memcpy(sums, error, sizeof error);                                                                        \
    memcpy(sums + LANES, squares, sizeof squares);                                                            \
    memcpy(sums + 2 * LANES, norms, sizeof norms);                                                            \
}                                                                                                             \
                                                                                                              \
/* The same over x [rows, channels], for each channel, on top of sums [3, all] and maxima. */                 \
static void columns_##SUFFIX(const REAL *x, const REAL *y, whole rows, whole channels, whole all,             \
                      double *sums, REAL *maxima) {                                                           \
    /* Rows of few channels are taken several at a time, in lanes of their own. */                            \
    const whole many = channels < LANES ? LANES / channels : 1;                                               \
    for (whole first = 0; first < channels; first += LANES) {                                                 \
        const whole some = channels - first < LANES ? channels - first : LANES;                               \
        for (whole start = 0, step = many; start < rows; start += rows / step * step, step = 1) {             \
            const whole place = start * channels + first, width = some * step;                                \
            const whole count = (rows - start) / step;                                                        \
            const REAL *other = y ? y + place : NULL;                                                         \
            double lanes[3 * LANES];                                                                          \
            REAL largest[LANES] = {0};                                                                        \
            if (count == 0) continue;                                                                         \
            if (width == LANES)                                                                               \
                lanes_##SUFFIX(x + place, other, count, step * channels, LANES, lanes, largest);              \
            else                                                                                              \
                lanes_##SUFFIX(x + place, other, count, step * channels, width, lanes, largest);              \
            for (whole i = 0; i < width; i++) {                                                               \
                const whole c = first + i % some;                                                             \
                for (int k = 0; k < 3; k++) sums[k * all + c] += lanes[k * LANES + i];                        \
                /* NaN stays. */                                                                              \
                if (maxima && (largest[i] > maxima[c] || largest[i] != largest[i])) maxima[c] = largest[i];   \
            }                                                                                                 \
        }                                                                                                     \
    }                                                                                                         \
}                                                                                                             \
                                                                                                              \
/* x, y: [outer, channels, inner], y NULL where it isn't wanted. Outputs, on top of what is there: sums       \
 * [3, channels] of x - y, (x - y)^2 and x^2; without y of x^2 alone, and maxima [channels]. */               \
void moments_##SUFFIX(const REAL *x, const REAL *y, whole outer, whole channels, whole inner, double *sums,   \
               REAL *maxima) {                                                                                \
    if (inner == 1) {                                                                                         \
        columns_##SUFFIX(x, y, outer, channels, channels, sums, maxima);                                      \
        return;                                                                                               \
    }                                                                                                         \
    for (whole i = 0; i < outer * channels; i++) {                                                            \
        const whole c = i % channels, place = i * inner;                                                      \
        columns_##SUFFIX(x + place, y ? y + place : NULL, inner, 1, channels, sums + c,                       \
                  maxima ? maxima + c : NULL);                                                                \
    }                                                                                                         \
}

DEFINE(float, uint32_t, float32)
DEFINE(double, uint64_t, float64)

/* Cumulates a histogram table [lines, bins, 2] over its bins, in place. */
void cumulate(double *table, whole lines, whole bins) {
    for (whole line = 0; line < lines; line++) {
        double *entry = table + 2 * line * bins;
        for (whole b = 1; b < bins; b++, entry += 2) {
            entry[2] += entry[0];
            entry[3] += entry[1];
        }
    }
}

/* Sums [lines, groups, 2] over entries of a cumulated table [lines, bins, 2], the first number of each times a
 * weight. position: [groups, size] for each line, or line_stride 0 where all are alike; position p is the sum of
 * the first p bins, linear between whole numbers. weight: [size]. */
void sums_below(const double *table, const double *position, whole line_stride, const double *weight,
                whole lines, whole bins, whole groups, whole size, double *sums) {
    for (whole line = 0; line < lines; line++) {
        const double *row = table + 2 * line * bins;
        for (whole g = 0; g < groups; g++) {
            const double *at = position + line * line_stride + g * size;
            double first = 0, second = 0;
            for (whole k = 0; k < size; k++) {
                const whole low = (whole)at[k];
                const double part = at[k] - (double)low;
                double pair[2] = {0, 0};
                if (low > 0) memcpy(pair, row + 2 * low - 2, sizeof pair);
                if (part > 0)
                    for (int i = 0; i < 2; i++) pair[i] += part * (row[2 * low + i] - pair[i]);
                first += weight[k] * pair[0];
                second += pair[1];
            }
            *sums++ = first;
            *sums++ = second;
        }
    }
}
