/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The golden hashes without Python, for machines that have none here (an emulated AArch64) and for sanitizers:
 *     golden vectors/golden.txt [LARGEST]
 * fills every row of the file, of at most LARGEST elements, on every instruction set of this CPU, by one and by three
 * threads, and compares. Then it makes orthogonal and unitary matrices, propagates through stacks and prints the hashes of all
 * results, which another build must print too.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastinit.h"

/* ---- SHA-256 (FIPS 180-4) --------------------------------------------------------------- */

typedef struct {
    uint32_t state[8];
    unsigned char block[64];
    uint64_t bytes;
} sha256;

static uint32_t rotated(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes, and of the square roots
 * of the first 8: the standard's own constants, by integer roots. */
static uint32_t root_fraction(unsigned prime, int power) {
    uint64_t root = 0; /* floor(prime^(1/power) * 2^32), bit by bit in 128 bits */
    for (int bit = 36; bit >= 0; bit--) {
        const uint64_t next = root | (UINT64_C(1) << bit);
        const long double r = (long double)next / 4294967296.0L;
        if ((power == 2 ? r * r : r * r * r) <= (long double)prime) root = next;
    }
    return (uint32_t)root;
}

static uint32_t constants[64], start[8];

static void sha256_constants(void) {
    for (unsigned n = 0, candidate = 2; n < 64; candidate++) {
        unsigned divisor = 2;
        while (divisor * divisor <= candidate && candidate % divisor) divisor++;
        if (divisor * divisor <= candidate) continue;
        constants[n] = root_fraction(candidate, 3);
        if (n < 8) start[n] = root_fraction(candidate, 2);
        n++;
    }
}

static void sha256_block(sha256 *h) {
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)h->block[4 * i] << 24 | (uint32_t)h->block[4 * i + 1] << 16 |
               (uint32_t)h->block[4 * i + 2] << 8 | h->block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        const uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + w[i - 7] +
               (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
    }
    memcpy(v, h->state, sizeof v);
    for (int i = 0; i < 64; i++) {
        const uint32_t e = v[4], a = v[0];
        const uint32_t t1 = v[7] + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) +
                            ((e & v[5]) ^ (~e & v[6])) + constants[i] + w[i];
        const uint32_t t2 = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) +
                            ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h->state[i] += v[i];
}

static void sha256_add(sha256 *h, const void *data, size_t bytes) {
    const unsigned char *p = data;
    for (size_t i = 0; i < bytes; i++) {
        h->block[h->bytes++ % 64] = p[i];
        if (h->bytes % 64 == 0) sha256_block(h);
    }
}

static void sha256_begin(sha256 *h) {
    memcpy(h->state, start, sizeof start);
    h->bytes = 0;
}

static void sha256_end(sha256 *h, char text[65]) {
    const uint64_t bits = h->bytes * 8;
    const unsigned char one = 0x80, zero = 0;
    sha256_add(h, &one, 1);
    while (h->bytes % 64 != 56) sha256_add(h, &zero, 1);
    for (int i = 7; i >= 0; i--) {
        const unsigned char byte = (unsigned char)(bits >> (8 * i));
        sha256_add(h, &byte, 1);
    }
    for (int i = 0; i < 8; i++) snprintf(text + 8 * i, 9, "%08" PRIx32, h->state[i]);
}

/* ---- the stream ------------------------------------------------------------------------- */

static const char *const laws[] = {"words", "uniform", "normal", "truncated_normal"};
static const char *const dtypes[] = {"float32", "float64", "float16", "bfloat16"};
static const size_t sizes[] = {4, 8, 2, 2};

static int find(const char *const *names, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return i;
    fprintf(stderr, "unknown name %s\n", name);
    exit(2);
}

static double parameter(char **text) {
    const double value = strtod(*text, text);
    if (**text == ',') ++*text;
    return value;
}

static uint64_t largest = UINT64_MAX;

/* 1 where the hash is right, 0 where it is wrong, -1 for a row that is too long. */
static int check_row(const char *line, unsigned threads) {
    char law[32], dtype[32], parameters[256], expected[65], got[65], *at = parameters;
    char numbers[4][24];
    if (sscanf(line, "%31s %31s %255s %23s %23s %23s %23s %64s", law, dtype, parameters, numbers[0], numbers[1],
               numbers[2], numbers[3], expected) != 8) {
        fprintf(stderr, "not a row: %s", line);
        exit(2);
    }
    const fi_key key = {strtoull(numbers[0], NULL, 0), strtoull(numbers[1], NULL, 0)};
    const uint64_t first = strtoull(numbers[2], NULL, 0), count = strtoull(numbers[3], NULL, 0);
    if (count > largest) return -1;
    const int code = find(dtypes, 4, dtype);
    fi_dist dist = {.law = (fi_law)find(laws, 4, law)};
    if (dist.law != FI_WORDS) {
        dist.a = parameter(&at);
        dist.b = parameter(&at);
    }
    if (dist.law == FI_TRUNCATED_NORMAL) {
        dist.c = parameter(&at);
        dist.d = parameter(&at);
    }
    fi_plan plan;
    if (fi_plan_make(&plan, &dist, (fi_dtype)code, key) != FI_OK) return 0;
    void *out = malloc(count * sizes[code]); /* of that size: a sanitizer sees the first byte too many */
    if (!out) exit(2);
    fi_fill(&plan, out, first, count, threads, NULL);
    sha256 h;
    sha256_begin(&h);
    sha256_add(&h, out, count * sizes[code]);
    sha256_end(&h, got);
    free(out);
    if (strcmp(expected, got) == 0) return 1;
    printf("%s, %u threads: %s expected, got %s for %s", fi_isa_name(), threads, expected, got, line);
    return 0;
}

static int check_stream(const char *path) {
    FILE *file = fopen(path, "r");
    char line[1024];
    int good = 0, bad = 0;
    if (!file) {
        perror(path);
        exit(2);
    }
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#' || line[0] == '\n') continue;
        for (unsigned threads = 1; threads <= 3; threads += 2) {
            const int right = check_row(line, threads);
            good += right == 1;
            bad += right == 0;
        }
    }
    fclose(file);
    printf("%s: %d of %d hashes right\n", fi_isa_name(), good, good + bad);
    return good > 0 && bad == 0;
}

/* ---- the stack -------------------------------------------------------------------------- */

enum { DEPTH = 3, BATCH = 21, PAIRS = 2 };
static const size_t pairs[2 * PAIRS] = {0, 20, 9, 8};
static const size_t widths[DEPTH + 1] = {19, 40, 33, 7};

static void *drawn(size_t n, fi_dtype dtype, uint64_t stream) {
    const fi_dist dist = {.law = FI_NORMAL, .a = 0, .b = 0.3};
    void *out = malloc(n * sizes[dtype]);
    fi_plan plan;
    if (!out || fi_plan_make(&plan, &dist, dtype, (fi_key){1, stream}) != FI_OK) exit(2);
    fi_fill(&plan, out, 0, n, 1, NULL);
    return out;
}

static void stack_hash(int activation, fi_dtype dtype, char text[65]) {
    void *weights[DEPTH], *biases[DEPTH], *dw[DEPTH], *db[DEPTH];
    int activations[DEPTH];
    fi_layer_statistics statistics[DEPTH];
    double norms[DEPTH], cosines[2 * DEPTH * PAIRS];
    for (size_t l = 0; l < DEPTH; l++) {
        const size_t n = widths[l] * widths[l + 1];
        weights[l] = drawn(n, dtype, l);
        biases[l] = drawn(widths[l + 1], dtype, 10 + l);
        dw[l] = drawn(n, dtype, 20);
        db[l] = drawn(widths[l + 1], dtype, 20);
        activations[l] = activation;
    }
    void *x = drawn(BATCH * widths[0], dtype, 30), *dy = drawn(BATCH * widths[DEPTH], dtype, 31);
    void *y = drawn(BATCH * widths[DEPTH], dtype, 32), *dx = drawn(BATCH * widths[0], dtype, 33);
    const double parameters[DEPTH] = {0.01, 0.01, 0.01};
    const fi_stack_args run = {
        .depth = DEPTH, .batch = BATCH, .widths = widths, .activations = activations, .parameters = parameters,
        .weights = (const void *const *)weights, .biases = (const void *const *)biases,
        .backward = 1, .phases = FI_FORWARD | FI_BACKWARD, .x = x, .dy = dy, .y = y, .dx = dx,
        .weight_gradients = dw, .bias_gradients = db, .statistics = statistics, .norms = norms,
        .pairs_count = PAIRS, .pairs = pairs, .cosines = cosines};
    void *workspace = malloc(fi_stack_workspace(&run, dtype, 2));
    if (!workspace) exit(2);
    fi_stack_propagate(&run, dtype, 2, workspace, NULL);
    sha256 h;
    sha256_begin(&h);
    sha256_add(&h, y, BATCH * widths[DEPTH] * sizes[dtype]);
    sha256_add(&h, dx, BATCH * widths[0] * sizes[dtype]);
    for (size_t l = 0; l < DEPTH; l++) {
        sha256_add(&h, dw[l], widths[l] * widths[l + 1] * sizes[dtype]);
        sha256_add(&h, db[l], widths[l + 1] * sizes[dtype]);
        free(weights[l]), free(biases[l]), free(dw[l]), free(db[l]);
    }
    sha256_add(&h, statistics, sizeof statistics);
    sha256_add(&h, norms, sizeof norms);
    sha256_add(&h, cosines, sizeof cosines);
    sha256_end(&h, text);
    free(x), free(dy), free(y), free(dx), free(workspace);
}

/* A diagnosis of residual blocks, with weights that are stored, or drawn in segments. */
static void blocks_hash(int stored, fi_dtype dtype, char text[65]) {
    enum { LAYERS = 9, WIDTH = 45 };
    static const int skips[LAYERS] = {-1, -1, 1, -1, 3, 5, -1, -1, 6}, activations[LAYERS] = {FI_TANH, FI_GELU, FI_TANH};
    const double parameters[LAYERS] = {0};
    const void *biases[LAYERS] = {NULL};
    size_t equal[LAYERS + 1];
    void *weights[LAYERS];
    fi_plan plans[LAYERS];
    fi_layer_statistics statistics[LAYERS];
    double norms[LAYERS], cosines[2 * LAYERS * PAIRS];
    for (size_t l = 0; l <= LAYERS; l++) equal[l] = WIDTH;
    for (size_t l = 0; l < LAYERS; l++) {
        const fi_dist dist = {.law = FI_NORMAL, .a = 0, .b = 0.3};
        if (fi_plan_make(&plans[l], &dist, dtype, (fi_key){1, l}) != FI_OK) exit(2);
        weights[l] = drawn(WIDTH * WIDTH, dtype, l);
    }
    void *x = drawn(BATCH * WIDTH, dtype, 30), *dy = drawn(BATCH * WIDTH, dtype, 31), *y = drawn(BATCH * WIDTH, dtype, 32);
    const fi_stack_args run = {
        .depth = LAYERS, .batch = BATCH, .widths = equal, .activations = activations, .parameters = parameters, .residual_sources = skips,
        .alpha = 0.5, .weights = stored ? (const void *const *)weights : NULL, .plans = plans, .biases = biases,
        .backward = 1, .phases = FI_FORWARD | FI_BACKWARD, .x = x, .dy = dy, .y = y, .statistics = statistics,
        .norms = norms, .pairs_count = PAIRS, .pairs = pairs, .cosines = cosines};
    void *workspace = malloc(fi_stack_workspace(&run, dtype, 2));
    if (!workspace) exit(2);
    fi_stack_propagate(&run, dtype, 2, workspace, NULL);
    sha256 h;
    sha256_begin(&h);
    sha256_add(&h, y, BATCH * WIDTH * sizes[dtype]);
    sha256_add(&h, statistics, sizeof statistics);
    sha256_add(&h, norms, sizeof norms);
    sha256_add(&h, cosines, sizeof cosines);
    sha256_end(&h, text);
    for (size_t l = 0; l < LAYERS; l++) free(weights[l]);
    free(x), free(dy), free(y), free(workspace);
}

/* Prints the hashes of the first instruction set, and whether the others reach them. */
static int check_stacks(int isa) {
    static char expected[2][FI_ACTIVATIONS][65];
    int same = 1;
    for (int dtype = FI_FLOAT32; dtype <= FI_FLOAT64; dtype++) {
        for (int a = 0; a < FI_ACTIVATIONS; a++) {
            char got[65];
            stack_hash(a, (fi_dtype)dtype, got);
            if (isa == 0) {
                strcpy(expected[dtype][a], got);
                printf("stack %s %s %s\n", dtypes[dtype], fi_activation_traits[a].name, got);
            } else if (strcmp(got, expected[dtype][a]) != 0) {
                printf("%s: other bits in the stack, %s %s\n", fi_isa_name(), dtypes[dtype],
                       fi_activation_traits[a].name);
                same = 0;
            }
        }
    }
    return same;
}

/* The same of residual blocks, whose weights need not be stored. */
static int check_blocks(int isa) {
    static char expected[2][65];
    int same = 1;
    for (int dtype = FI_FLOAT32; dtype <= FI_FLOAT64; dtype++) {
        for (int stored = 0; stored <= 1; stored++) {
            char got[65];
            blocks_hash(stored, (fi_dtype)dtype, got);
            if (isa == 0 && !stored) {
                strcpy(expected[dtype], got);
                printf("stack %s residual %s\n", dtypes[dtype], got);
            } else if (strcmp(got, expected[dtype]) != 0) {
                printf("%s: other bits in residual blocks, %s %s\n", fi_isa_name(), dtypes[dtype], stored ? "stored" : "drawn");
                same = 0;
            }
        }
    }
    return same;
}

/* ---- orthogonal matrices ---------------------------------------------------------------- */

/* Tall, of two blocks of reflections that are not whole ones, by two threads; and columns of the wide one. */
static void haar_hash(int parts, fi_dtype dtype, char text[65]) {
    enum { ROWS = 101, COLUMNS = 70, FIRST = 13, COUNT = 40 };
    const size_t number = (size_t)parts * sizes[dtype], whole = ROWS * COLUMNS * number, piece = ROWS * COUNT * number;
    char *out = malloc(whole), *some = malloc(piece);
    if (!out || !some) exit(2);
    fi_haar_args run = {.key = {7, 5}, .rows = ROWS, .columns = COLUMNS, .count = COLUMNS, .gain = 1, .parts = parts, .out = out};
    if (fi_haar(&run, dtype, 2, NULL) != FI_OK) exit(2);
    run.first = FIRST, run.count = COUNT, run.transposed = 1, run.out = some;
    if (fi_haar(&run, dtype, 1, NULL) != FI_OK) exit(2);
    sha256 h;
    sha256_begin(&h);
    sha256_add(&h, out, whole);
    sha256_add(&h, some, piece);
    sha256_end(&h, text);
    free(out), free(some);
}

static int check_haar(int isa) {
    static char expected[2][2][65];
    int same = 1;
    for (int dtype = FI_FLOAT32; dtype <= FI_FLOAT64; dtype++)
        for (int parts = 1; parts <= 2; parts++) {
            char got[65];
            haar_hash(parts, (fi_dtype)dtype, got);
            if (isa == 0) {
                strcpy(expected[dtype][parts - 1], got);
                printf("haar %s %d %s\n", dtypes[dtype], parts, got);
            } else if (strcmp(got, expected[dtype][parts - 1]) != 0) {
                printf("%s: other bits of orthogonal matrices, %s, parts %d\n", fi_isa_name(), dtypes[dtype], parts);
                same = 0;
            }
        }
    return same;
}

int main(int argc, char **argv) {
    int good = 1;
    if (argc != 2 && argc != 3) {
        fprintf(stderr, "expected the path of golden.txt, and perhaps a largest number of elements\n");
        return 2;
    }
    if (argc == 3) largest = strtoull(argv[2], NULL, 10);
    sha256_constants();
    for (int i = 0; fi_isa_available((size_t)i); i++) {
        fi_isa_select(fi_isa_available((size_t)i));
        good &= check_stream(argv[1]) & check_haar(i) & check_stacks(i) & check_blocks(i);
        fflush(stdout);
    }
    return !good;
}
