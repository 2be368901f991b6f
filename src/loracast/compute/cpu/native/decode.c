// One decoding pass on a CPU, beside the matrix products: attention, norms and SwiGLU of a few new tokens of each path.
//
// Compiled on the machine it runs on, by any compiler with GCC's vector extensions. All tensors are bfloat16 unless a
// type says otherwise; sums are float. Keys and values are kept in pairs, which processors with bfloat16 multiply and
// add in one instruction, and in chunks of 64 tokens, so that memory is read from its beginning to its end:
//   a chunk  [64 * E] words: keys [E / 2][64][2], two components of each key beside each other, and
//            values [64 / 2][E][2], each component of two values beside each other
// An online softmax goes through the prompt, which the paths of a series share, and on through a path's own tokens.
//
// Shapes: N series, S samples, T new tokens, H query heads, K key-value heads, G = H / K, E head size, a multiple of
// 32.

#include <stdint.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

typedef uint16_t bf16;
typedef float floats __attribute__((vector_size(64), aligned(4)));
typedef uint32_t words __attribute__((vector_size(64), aligned(4)));
typedef int32_t signed_words __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32), aligned(2)));
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, CHUNK = 64, BLOCKS = CHUNK / LANES, MOST_ROWS = 64, MOST_SIZE = 128 };

// -- numbers ----------------------------------------------------------------------------------------------------------

INLINE floats load(const bf16 *from) {
    return (floats)(__builtin_convertvector(*(const halves *)from, words) << 16);
}

INLINE floats all(float x) { return x - (floats){}; }

INLINE floats chosen(words where, floats a, floats b) { return (floats)(((words)a & where) | ((words)b & ~where)); }

#ifdef __AVX512BF16__

INLINE void store(bf16 *to, floats x) { *(halves *)to = (halves)_mm512_cvtneps_pbh((__m512)x); }

INLINE floats larger(floats a, floats b) { return (floats)_mm512_max_ps((__m512)a, (__m512)b); }

INLINE float largest_of(floats x) { return _mm512_reduce_max_ps((__m512)x); }

INLINE float sum_of(floats x) { return _mm512_reduce_add_ps((__m512)x); }

INLINE floats add_products(floats sum, words pairs, uint32_t pair) {  // of both halves of each lane with one pair
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)pairs, (__m512bh)_mm512_set1_epi32(pair));
}

#else

INLINE void store(bf16 *to, floats x) {  // rounded to the nearest, ties to even
    words bits = (words)x;
    *(halves *)to = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, halves);
}

INLINE floats larger(floats a, floats b) { return chosen((words)(a > b), a, b); }

INLINE float largest_of(floats x) {
    float largest = x[0];
    for (int lane = 1; lane < LANES; lane++) largest = x[lane] > largest ? x[lane] : largest;
    return largest;
}

INLINE float sum_of(floats x) {
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += x[lane];
    return sum;
}

INLINE floats add_products(floats sum, words pairs, uint32_t pair) {
    words other = pair - (words){};
    return sum + (floats)(pairs << 16) * (floats)(other << 16) +
           (floats)(pairs & 0xffff0000) * (floats)(other & 0xffff0000);
}

#endif

INLINE floats exp2_of(floats x) {  // of x <= 0, to 2e-7; what is below the smallest normal number becomes that
    x = larger(x, all(-126));
    floats whole = (x + 12582912.0f) - 12582912.0f, part = x - whole;  // 1.5 * 2^23 rounds to the nearest
    floats sum = all(1.5403530e-4f);
    sum = sum * part + 1.3333558e-3f;
    sum = sum * part + 9.6181291e-3f;
    sum = sum * part + 5.5504109e-2f;
    sum = sum * part + 2.4022651e-1f;
    sum = sum * part + 6.9314718e-1f;
    sum = sum * part + 1.0f;
    return (floats)((signed_words)sum + (__builtin_convertvector(whole, signed_words) << 23));
}

// -- attention --------------------------------------------------------------------------------------------------------

typedef struct {  // query rows and their softmax so far, in base 2
    uint32_t query[MOST_ROWS][MOST_SIZE / 2];
    floats mass[MOST_ROWS];  // its lanes are summed at the end
    float highest[MOST_ROWS], mixed[MOST_ROWS][MOST_SIZE];
    int limit[MOST_ROWS];  // keys that a row sees
} Rows;

INLINE void score(const Rows *rows, int row, int count, const uint32_t *keys, int half, float scores[][CHUNK]) {
    floats sum[4][BLOCKS] = {};
    for (int pair = 0; pair < half; pair++)
        for (int block = 0; block < BLOCKS; block++) {
            words some = *(const words *)(keys + pair * CHUNK + block * LANES);
            for (int one = 0; one < count; one++)
                sum[one][block] = add_products(sum[one][block], some, rows->query[row + one][pair]);
        }
    for (int one = 0; one < count; one++)
        for (int block = 0; block < BLOCKS; block++) *(floats *)(scores[one] + block * LANES) = sum[one][block];
}

INLINE void mix(Rows *rows, int row, int count, int width, const uint32_t *values, int pairs, int size,
                const float *fade, uint32_t weights[][CHUNK / 2]) {
    for (int column = 0; column < size; column += width * LANES) {
        floats sum[4][4];
        for (int one = 0; one < count; one++)
            for (int block = 0; block < width; block++)
                sum[one][block] = *(floats *)(rows->mixed[row + one] + column + block * LANES) * fade[one];
        for (int pair = 0; pair < pairs; pair++)
            for (int block = 0; block < width; block++) {
                words some = *(const words *)(values + pair * size + column + block * LANES);
                for (int one = 0; one < count; one++)
                    sum[one][block] = add_products(sum[one][block], some, weights[one][pair]);
            }
        for (int one = 0; one < count; one++)
            for (int block = 0; block < width; block++)
                *(floats *)(rows->mixed[row + one] + column + block * LANES) = sum[one][block];
    }
}

// Goes on with the softmax of some rows over the `left` tokens, or 64 of them, of a chunk that begins at `start`.
INLINE void attend_chunk(Rows *rows, int row, int count, const uint32_t *chunk, int start, int left, int size) {
    float scores[4][CHUNK], fade[4];
    uint32_t weights[4][CHUNK / 2];
    const uint32_t *values = chunk + CHUNK / 2 * size;
    const signed_words lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    score(rows, row, count, chunk, size / 2, scores);
    for (int one = 0; one < count; one++) {
        int known = rows->limit[row + one] - start;
        floats *columns = (floats *)scores[one];
        for (int block = 0; known < CHUNK && block < BLOCKS; block++)
            columns[block] = chosen((words)(lanes + block * LANES < known), columns[block], all(-1e30f));
        floats most = larger(larger(columns[0], columns[1]), larger(columns[2], columns[3])), sum = {};
        float before = rows->highest[row + one], highest = largest_of(most);
        highest = highest > before ? highest : before;
        for (int block = 0; block < BLOCKS; block++) {
            floats weight = exp2_of(columns[block] - highest);
            sum += weight;
            store((bf16 *)weights[one] + block * LANES, weight);
        }
        fade[one] = before == highest ? 1 : exp2_of(all(before - highest))[0];
        rows->highest[row + one] = highest;
        rows->mass[row + one] = rows->mass[row + one] * fade[one] + sum;
    }
    int pairs = left < CHUNK ? (left + 1) / 2 : CHUNK / 2;
    if (size % (4 * LANES)) mix(rows, row, count, 1, values, pairs, size, fade, weights);
    else mix(rows, row, count, 4, values, pairs, size, fade, weights);
}

static void attend(Rows *rows, int first, int last, const uint32_t *kept, int length, int size) {
    for (int start = 0; start < length; start += CHUNK, kept += CHUNK * size) {
        int row = first, left = length - start;
        for (; row + 4 <= last; row += 4) attend_chunk(rows, row, 4, kept, start, left, size);
        if (row + 2 <= last) attend_chunk(rows, row, 2, kept, start, left, size), row += 2;
        if (row < last) attend_chunk(rows, row, 1, kept, start, left, size);
    }
}

// A vector [E] rotated by the cosines and sines [E / 2] of its position, and scaled.
INLINE void rotate(const bf16 *from, const float *cosines, const float *sines, float scale, int half, bf16 *to) {
    for (int pair = 0; pair < half; pair += LANES) {
        floats low = load(from + pair) * scale, high = load(from + pair + half) * scale;
        floats cosine = *(const floats *)(cosines + pair), sine = *(const floats *)(sines + pair);
        store(to + pair, low * cosine - high * sine);
        store(to + pair + half, high * cosine + low * sine);
    }
}

typedef struct {
    const int32_t *lengths;         // [N] of the prompts
    const float *cosine, *sine;     // [positions, E / 2]
    int64_t series, samples, groups, share, size, fed, prompt_room, own_room, threads;
} Layout;

// Attention [N * S * T, H * E] of what one product made, qkv [N * S * T, (H + 2K) * E], whose keys and values are
// stored. Prompts have room for [N * K] times prompt_room tokens, the paths for [N * S * K] times own_room.
void decode_attention(const Layout *layout, const bf16 *qkv, const uint32_t *prompts, uint32_t *own, bf16 *out,
                      int64_t out_stride, int64_t new) {
    int size = layout->size, half = size / 2, share = layout->share, groups = layout->groups, fed = layout->fed;
    int wide = groups * (share + 2) * size, rows_of_path = share * new;
    int paths = MOST_ROWS / rows_of_path;  // of a task
    int tasks_of_series = (layout->samples + paths - 1) / paths;
    float scale = 1.4426950408889634f / __builtin_sqrtf(size);
    int64_t tasks = layout->series * groups * tasks_of_series;
#pragma omp parallel for schedule(dynamic) num_threads(layout->threads)
    for (int64_t task = 0; task < tasks; task++) {
        Rows rows;
        int64_t series = task / tasks_of_series / groups;
        int group = task / tasks_of_series % groups, begin = task % tasks_of_series * paths;
        int end = begin + paths < layout->samples ? begin + paths : layout->samples;
        int length = layout->lengths[series], row = 0;
        for (int sample = begin; sample < end; sample++)
            for (int token = 0; token < new; token++) {
                int64_t path = series * layout->samples + sample, at = fed + token;
                uint32_t *chunk = own + ((path * groups + group) * layout->own_room + at / CHUNK * CHUNK) * size;
                const bf16 *from = qkv + (path * new + token) * wide;
                const float *cosine = layout->cosine + (length + at) * half;
                const float *sine = layout->sine + (length + at) * half;
                for (int head = 0; head < share; head++, row++) {
                    bf16 *query = (bf16 *)rows.query[row];
                    rotate(from + (group * share + head) * size, cosine, sine, scale, half, query);
                    rows.limit[row] = length, rows.highest[row] = -1e30f, rows.mass[row] = (floats){};
                    for (int column = 0; column < size; column++) rows.mixed[row][column] = 0;
                }
                uint32_t key[MOST_SIZE / 2];
                from += (groups * share + group) * size;
                rotate(from, cosine, sine, 1, half, (bf16 *)key);
                for (int pair = 0; pair < half; pair++) chunk[pair * CHUNK + at % CHUNK] = key[pair];
                bf16 *value = (bf16 *)(chunk + CHUNK * half + at % CHUNK / 2 * size) + at % 2;
                for (int column = 0; column < size; column++) value[2 * column] = from[groups * size + column];
            }
        attend(&rows, 0, row, prompts + (series * groups + group) * layout->prompt_room * size, length, size);
        for (int sample = begin, first = 0; sample < end; sample++, first += rows_of_path) {
            int64_t path = series * layout->samples + sample;
            for (int one = 0; one < rows_of_path; one++) rows.limit[first + one] = fed + one / share + 1;
            const uint32_t *kept = own + (path * groups + group) * layout->own_room * size;
            attend(&rows, first, first + rows_of_path, kept, fed + new, size);
            for (int one = 0; one < rows_of_path; one++) {
                bf16 *to = out + (path * new + one / share) * out_stride + (group * share + one % share) * size;
                float *mixed = rows.mixed[first + one], inverse = 1 / sum_of(rows.mass[first + one]);
                for (int column = 0; column < size; column += LANES)
                    store(to + column, *(floats *)(mixed + column) * inverse);
            }
        }
    }
}

// -- what is done to each token ---------------------------------------------------------------------------------------

// Adds delta [M, C] to the residual stream x [M, C] in place, if there is one, and writes the RMSNorm of the sum.
void add_norm(bf16 *x, const bf16 *delta, const bf16 *weight, bf16 *normed, int64_t rows, int64_t columns,
              int64_t normed_stride, float eps, int64_t threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++) {
        bf16 *total = x + row * columns, *to = normed + row * normed_stride;
        floats squares = {};
        for (int64_t column = 0; column < columns; column += LANES) {
            floats value = load(total + column);
            if (delta) {
                store(total + column, value + load(delta + row * columns + column));
                value = load(total + column);
            }
            squares += value * value;
        }
        float scale = 1 / __builtin_sqrtf(sum_of(squares) / columns + eps);
        for (int64_t column = 0; column < columns; column += LANES)
            store(to + column, load(total + column) * scale * load(weight + column));
    }
}

// silu(gate) * up [M, I] of [M, 2I].
void swiglu(const bf16 *gate_up, bf16 *out, int64_t rows, int64_t inner, int64_t out_stride, int64_t threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < inner; column += LANES) {
            floats gate = load(gate_up + row * 2 * inner + column), up = load(gate_up + (row * 2 + 1) * inner + column);
            floats size = larger(gate, -gate), small = exp2_of(size * -1.4426950408889634f);  // e^-|gate|
            floats above = chosen((words)(gate > 0), all(1), small);
            store(out + row * out_stride + column, gate * above / (1 + small) * up);
        }
}
