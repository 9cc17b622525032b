/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The C interface of fastinit: the only header that the Python binding sees.
 * Nothing here returns memory that the caller must free, and the only state is the chosen
 * instruction set. Arguments are checked by the caller (the binding), not here.
 */
#ifndef FASTINIT_H
#define FASTINIT_H

#include <stddef.h>
#include <stdint.h>

#define FI_STREAM_VERSION 1

typedef enum {
    FI_OK = 0,
    FI_ERR_ISA_UNKNOWN,     /* no instruction set of that name exists */
    FI_ERR_ISA_UNAVAILABLE, /* it exists, but not in this build or on this CPU */
    FI_ERR_NO_MASS,         /* a truncated normal between bounds of no representable probability */
    FI_ERR_MEMORY
} fi_status;

/* ---- Instruction sets ------------------------------------------------------------------ */

/* Chooses the kernels of the process: `name`, or the widest available one where name is NULL
 * or empty. On an error the choice stays as it was. Every set gives the same bits, so it may be called while other
 * threads sample: what they have begun goes on with the old set or the new one. But a workspace of the stack fits only the
 * set that measured it. A caller who does not name that set in fi_stack_args.kernels must not choose another between
 * fi_stack_workspace and the last phase that uses the workspace. */
fi_status fi_isa_select(const char *name);

/* The chosen set. Another thread may choose another at any time: kernels that must fit together come from one call. */
typedef struct fi_kernels fi_kernels;
const fi_kernels *fi_active(void);

/* The chosen set's name ("scalar", "avx2", "avx512", "neon"). */
const char *fi_isa_name(void);

/* The names of the sets available on this CPU, narrowest first; NULL from the first index past the end. */
const char *fi_isa_available(size_t index);

/* Name and version of the compiler that built this library. */
const char *fi_compiler(void);

/* ---- Interrupting long calls ----------------------------------------------------------- */

/* How a long call learns that it is to be interrupted. About every 50 ms it calls `ask`, and always in the thread that made the
 * call; anything but 0 interrupts it. It then returns soon, with `stopped` set: its outputs are undefined, and it holds
 * nothing any more. One watch for each call. Where a function takes a watch, NULL means a call that cannot be interrupted. */
typedef struct {
    int (*ask)(void *context);
    void *context;
    volatile int stopped;
    uint64_t caller, next; /* the thread that made the call, and when it asks again, in milliseconds */
} fi_watch;

/* OUT watch. Called right before the call that it is for, in the same thread. */
void fi_watch_begin(fi_watch *watch, int (*ask)(void *context), void *context);

/* ---- Sampling -------------------------------------------------------------------------- */

typedef enum { FI_FLOAT32, FI_FLOAT64, FI_FLOAT16, FI_BFLOAT16, FI_DTYPES } fi_dtype;
/* The last three laws are chosen by fi_plan_make alone, in place of FI_TRUNCATED_NORMAL (see plan.c). */
typedef enum {
    FI_WORDS,
    FI_UNIFORM,
    FI_NORMAL,
    FI_TRUNCATED_NORMAL,
    FI_TRUNCATED_NORMAL_SYMMETRIC,
    FI_TRUNCATED_NORMAL_WIDE,
    FI_TRUNCATED_NORMAL_NARROW,
    FI_LAWS
} fi_law;

typedef struct {
    uint64_t seed;   /* the model */
    uint64_t stream; /* the tensor */
} fi_key;

/* The planes of a stream (docs/stream.md): each holds 32 bits of every element's random fraction. A value takes two, the
 * leading bits from the plane named here and the second 32 from the next; a choice takes the words of one. */
enum {
    FI_PLANE_REAL = 0,      /* real numbers, and the real part of complex ones */
    FI_PLANE_IMAGINARY = 2, /* the imaginary part */
    FI_PLANE_CHOICES = 4    /* the words that a sparse mask compares */
};

/* A distribution with the parameters of the public interface.
 *   FI_WORDS             the words of a plane, as uint32 (dtype FI_FLOAT32)
 *   FI_UNIFORM           [a, b), a < b finite
 *   FI_NORMAL            mean a, standard deviation b >= 0
 *   FI_TRUNCATED_NORMAL  mean a, standard deviation b >= 0, bounds c < d in standard deviations
 * `plane` is the value's first, or for FI_WORDS its only one: an FI_PLANE_*. */
typedef struct {
    fi_law law;
    unsigned plane;
    double a, b, c, d;
} fi_dist;

#define FI_NARROW_TERMS 20

/* A truncated normal between narrow bounds as z = base + unit * P(t), see narrow.c: t = 2 U - 1, or where `logarithmic`
 * t = ln(far + (1 - far) V), where V is U with its bits exclusive-or `flip`. */
typedef struct {
    int terms, logarithmic;
    uint64_t flip;
    double base, unit, far;
    float base_f, unit_f;
    union {
        double d[FI_NARROW_TERMS];
        float f[FI_NARROW_TERMS]; /* for float32, and float16 and bfloat16, which are made of it */
    } coefficients;               /* of P, by rising power */
} fi_narrow;

/* A distribution and a dtype, with the constants that every element's computation needs. Read-only for callers. */
typedef struct {
    fi_dist dist;
    fi_dtype dtype;
    fi_law kernel; /* the law, or its variant for symmetric or narrow bounds or in double precision */
    fi_key key;
    int clamp;           /* some element may round out of the bounds, so all are clamped to them */
    int shifted;         /* adding the shift changes something: it is not 0, or a product may be -0 */
    double scale, shift; /* x = shift + scale * (u or z) */
    double clamp_low, clamp_high;
    double tail_low, tail_high; /* Phi(c) and 1 - Phi(d) */
    double mass;                /* Phi(d) - Phi(c) */
    /* The same for float32 kernels. The tails are in units of 2^-32, as quantile_f32 takes them; unit_scale_f is the
     * scale of integers in units of 2^-31; limit_f is the largest |z|. */
    float scale_f, unit_scale_f, shift_f, clamp_low_f, clamp_high_f;
    float tail_low_f, tail_high_f, mass_f, limit_f;
    fi_narrow narrow;
    const uint32_t *second_words; /* the elements' second words in fi_map; NULL for tensors, whose words come from the key */
} fi_plan;

/* OUT plan. FI_ERR_NO_MASS also where no number of the dtype lies in a uniform law's interval. */
fi_status fi_plan_make(fi_plan *plan, const fi_dist *dist, fi_dtype dtype, fi_key key);

/* OUT out[0..count-1]: elements first .. first+count-1 of the tensor, in row-major order, on at most `threads`
 * threads (made and joined inside). out: aligned to its element. first + count <= 2^58. */
void fi_fill(const fi_plan *plan, void *out, uint64_t first, uint64_t count, unsigned threads, fi_watch *watch);

/* Elements first .. first+count-1 of one of several tensors: OUT out[0..count-1]. */
typedef struct {
    const fi_plan *plan;
    void *out;
    uint64_t first, count;
} fi_piece;

/* Fills all pieces at once: threads are started once for all, and each makes about as many elements. */
void fi_fill_many(const fi_piece *pieces, size_t pieces_count, unsigned threads, fi_watch *watch);

#define FI_MAX_DIMENSIONS 64

/* A strided region of a tensor, in row-major order of its own `dimensions` >= 1 axes: the element at
 * (i_0, i_1, ...) is element first + sum(i_k * strides[k]) of the tensor. */
typedef struct {
    uint64_t first;
    unsigned dimensions;
    uint64_t counts[FI_MAX_DIMENSIONS];
    int64_t strides[FI_MAX_DIMENSIONS];
} fi_region;

/* OUT out: the region's elements, contiguous. Time and memory grow with the region, not with the tensor. */
void fi_fill_region(const fi_plan *plan, void *out, const fi_region *region, unsigned threads, fi_watch *watch);

/* The exclusive-or of the first `count` words (rounded up to 128, at most 2^34) of FI_PLANE_REAL: for benchmarks of
 * the random bits alone. */
uint32_t fi_words_xor(fi_key key, uint64_t count);

/* OUT out: the values of `count` elements with words that the caller chooses, words[i] = w_0 2^32 + w_1; for tests.
 * plan: of FI_FLOAT32 or FI_FLOAT64, and not of FI_WORDS. */
void fi_map(const fi_plan *plan, const uint64_t *words, void *out, size_t count);

/* Double precision behind the normal laws, for tests of the stated errors.
 * exponential(x): 2 ULP for -708 <= x <= 1. logarithm(x), x > 0 normal: 2 ULP where |ln x| > 1, else
 * 2^-52. tail(z) = 1 - Phi(z): relative error <= 1e-14 for |z| <= 37.5. quantile(p) for p in (0, 0.5]:
 * -Phi^-1(p), error <= 2^-50 * max(1, |z|). */
double fi_exponential(double x);
double fi_logarithm(double x);
double fi_normal_tail(double z);
double fi_normal_quantile_tail(double p);

/* ---- Random orthogonal matrices ----------------------------------------------------------- */

/* Columns first .. first+count-1 of the rows x columns matrix of `key`, rows >= columns: orthonormal, exactly Haar
 * distributed, times gain. The bits of a column depend on key, rows, columns, dtype and parts alone. */
typedef struct {
    fi_key key;
    size_t rows, columns, first, count;
    double gain;
    int parts; /* of a number: 1, or 2 of a complex one */
    int transposed;
    void *out; /* OUT (rows, count), or (count, rows) where transposed; row-major */
} fi_haar_args;

/* dtype: FI_FLOAT32 or FI_FLOAT64, of each part. On FI_ERR_MEMORY nothing has been written. */
fi_status fi_haar(const fi_haar_args *args, fi_dtype dtype, unsigned threads, fi_watch *watch);

/* ---- The deep stack ---------------------------------------------------------------------- */

typedef enum {
#define FI_ACTIVATION(name, NAME, from, ...) FI_##NAME,
#include "stack/activations.def"
    FI_ACTIVATIONS
} fi_activation;

/* What the list says of an activation: the head of activations.def explains each field. A text may be NULL. */
typedef struct {
    const char *name, *definition, *derivative, *kinks, *parameter, *paper;
    int from_input, homogeneous; /* from_input: the derivative is no function of the value */
    double default_parameter, saturated_below, value_ulp, derivative_eps, left_ulp;
} fi_traits;
extern const fi_traits fi_activation_traits[FI_ACTIVATIONS];

typedef struct {
    double mean, variance, second_moment; /* population variance; NaN of an empty batch */
    double low, high;                     /* extremes of the numbers that are not NaN; inf and -inf if there are none */
    double non_finite;                    /* how many are infinite or NaN */
} fi_moments;

typedef struct {
    fi_moments pre_activation, activation, gradient; /* gradient: with respect to the pre-activation */
    double saturated; /* fraction of elements, see activations.def */
    double dead;      /* fraction of units whose value and derivative are 0 in every sample */
} fi_layer_statistics;

enum { FI_FORWARD = 1, FI_BACKWARD = 2 };

/* One pass through a stack of layers a' = phi(a W + b). All matrices are row-major and of one dtype. */
typedef struct {
    size_t depth, batch;
    const size_t *widths;            /* depth + 1, each >= 1 */
    const int *activations;          /* depth */
    const double *parameters;        /* depth: the slope of leaky_relu */
    const int *residual_sources;     /* depth, or NULL: where residual_sources[l] = s >= 0, s <= l, layer l ends a residual
                                        block: it adds alpha phi(z) to activation s, of the same width; blocks do not overlap */
    double alpha;
    const void *const *weights;      /* depth: (widths[l], widths[l + 1]); or NULL: they are drawn from `plans` whenever
                                        they are needed, and activations are kept at checkpoints alone */
    const fi_plan *plans;            /* depth; read where weights is NULL */
    const void *const *biases;       /* depth: (widths[l + 1],), or NULL for none */
    int backward;                    /* whether a backward pass belongs to it, now or in a later call */
    int phases;                      /* FI_FORWARD, FI_BACKWARD (on the workspace that the forward pass left), or both */
    const void *x;                   /* (batch, widths[0]) */
    const void *dy;                  /* (batch, widths[depth]); read by FI_BACKWARD */
    void *y;                         /* OUT (batch, widths[depth]), or NULL */
    void *dx;                        /* OUT (batch, widths[0]), or NULL */
    void *const *weight_gradients;   /* OUT depth, as weights; or NULL */
    void *const *bias_gradients;     /* OUT depth; NULL where weight_gradients is */
    fi_layer_statistics *statistics; /* OUT depth, or NULL; gradients are NaN without a backward pass */
    void *const *trace;              /* OUT 3 * depth, or NULL: of each layer the pre-activations, then of each the values that it
                                        passes on, then the gradients with respect to the pre-activations, all (batch,
                                        widths[l + 1]); NULL for one that is not wanted */
    /* norms and cosines: only with a backward pass and statistics. */
    double *norms;                   /* OUT depth, or NULL: the Euclidean norm of each weight gradient */
    size_t pairs_count;
    const size_t *pairs;             /* (pairs_count, 2): numbers of samples, each < batch */
    double *cosines;                 /* OUT (depth, 2, pairs_count), or NULL: of the activations, and of the gradients, of
                                        each pair; NaN where one has length 0 */
    double *pre_activation_cosines;  /* OUT (depth, pairs_count), or NULL; only with cosines */
    const fi_kernels *kernels;       /* the set to use, whatever is chosen meanwhile; NULL: the chosen one */
} fi_stack_args;

/* Bytes of working memory that a pass needs. They depend on sizes, and on which pointers are NULL. A forward and a backward
 * phase in calls of their own must be given the same threads, sizes, kernels, and pointers that are NULL. */
size_t fi_stack_workspace(const fi_stack_args *args, fi_dtype dtype, unsigned threads);

/* One pass, on at most `threads` threads. Every element of a product is one sum in index order by fma: the bits depend on
 * the inputs alone. dtype: FI_FLOAT32 or FI_FLOAT64, of all matrices. No backward pass may follow a forward pass that was
 * interrupted. */
void fi_stack_propagate(const fi_stack_args *args, fi_dtype dtype, unsigned threads, void *workspace, fi_watch *watch);

/* `rounds` of independent multiply-adds in registers: the peak rate of a core. Returns how many floating-point operations
 * (two for a multiply-add) that was. For benchmarks. */
double fi_fma_loop(fi_dtype dtype, uint64_t rounds);

/* values[i] = phi(x[i]) and derivatives[i] = phi'(x[i]) (unless NULL), as the stack computes them. */
void fi_activate(fi_activation activation, double parameter, fi_dtype dtype, const void *x, void *values,
                 void *derivatives, size_t n, fi_watch *watch);

/* ---- Training ---------------------------------------------------------------------------- */

/* The mean over a batch of the cross-entropy of softmax(outputs). */
typedef struct {
    size_t batch, classes;
    const void *outputs;   /* (batch, classes), of a dtype */
    const int64_t *labels; /* (batch,), the class of each row (another number makes the loss NaN); or NULL, and then */
    const double *probabilities; /* (batch, classes): of each class */
    void *gradient;        /* OUT (batch, classes), of the outputs' dtype */
} fi_cross_entropy_args;

/* Bytes of working memory of fi_cross_entropy. */
size_t fi_cross_entropy_scratch(size_t classes);

/* Returns the loss in nats; OUT correct: how many rows have their first largest output at the label, or at the first
 * largest probability; a row with a NaN has none.
 * Computed in double precision in a fixed order; the gradient is rounded to the dtype at the end. Largest errors before that:
 * of the loss 2^-49 times the larger of 1 and the range of a row's outputs, of the gradient 2^-50 / batch. dtype: FI_FLOAT32
 * or FI_FLOAT64. A row that holds a NaN or +inf makes the loss NaN. */
double fi_cross_entropy(const fi_cross_entropy_args *args, fi_dtype dtype, void *scratch, size_t *correct, fi_watch *watch);

/* Returns the mean of (output - target)^2 over n numbers; OUT gradient: 2 (output - target) / n, in the dtype. */
double fi_squared_error(fi_dtype dtype, size_t n, const void *outputs, const double *targets, void *gradient,
                        fi_watch *watch);

/* OUT out: `count` rows of `bytes` bytes each, source's rows[0], rows[1], ... */
void fi_gather(void *out, const void *source, const int64_t *rows, size_t count, size_t bytes, fi_watch *watch);

/* OUT order: 0 .. n-1 sorted by their draws, in [0, 1), stably. scratch: n numbers. Linear time on average for uniform draws,
 * quadratic if they cluster. */
void fi_order(int64_t *order, const double *draws, size_t n, size_t *scratch, fi_watch *watch);

typedef enum {
#define FI_OPTIMIZER(name, NAME, states) FI_##NAME,
#include "training/optimizers.def"
    FI_OPTIMIZERS
} fi_optimizer;

/* The name of an optimizer, and how many numbers it keeps for each parameter (optimizers.def). */
const char *fi_optimizer_name(size_t index);
size_t fi_optimizer_states(size_t index);

/* One array of parameters, and what the optimizer keeps for it: zeros before the first step. */
typedef struct {
    fi_dtype dtype; /* FI_FLOAT32 or FI_FLOAT64 */
    size_t count;
    void *values;
    void *first;  /* momentum and Adam; NULL for others */
    void *second; /* Adam */
} fi_parameter;

typedef struct {
    fi_optimizer optimizer;
    double rate;
    double beta_1; /* also the momentum */
    double beta_2, epsilon;
    double power_1, power_2; /* beta^t after t steps: 1 at first */
} fi_descent;

/* One step of all parameters. gradients[i]: as parameters[i].values. The bits depend on the numbers alone. */
void fi_descend(fi_descent *descent, const fi_parameter *parameters, const void *const *gradients, size_t count);

/* ---- Threads --------------------------------------------------------------------------- */

/* How many threads a call over `bytes` bytes of output uses when at most `limit` are allowed. */
unsigned fi_threads_for(uint64_t bytes, unsigned limit);

#endif
