# ---- what the binding uses of csrc/, in the order of fastinit.h: part of _core.pyx ----

cdef extern from "fastinit.h" nogil:
    int FI_STREAM_VERSION
    ctypedef enum fi_status:
        FI_OK
        FI_ERR_ISA_UNKNOWN
        FI_ERR_ISA_UNAVAILABLE
        FI_ERR_NO_MASS
        FI_ERR_MEMORY

    # Instruction sets
    fi_status fi_isa_select(const char *name)
    ctypedef struct fi_kernels:
        pass
    const fi_kernels *fi_active()
    const char *fi_isa_name()
    const char *fi_isa_available(size_t index)
    const char *fi_compiler()

    # Stopping early
    ctypedef struct fi_watch:
        int stopped
    void fi_watch_begin(fi_watch *watch, int (*ask)(void *context) noexcept, void *context)

    # Sampling
    ctypedef enum fi_dtype:
        FI_FLOAT32
        FI_FLOAT64
    ctypedef enum fi_law:
        FI_WORDS
        FI_TRUNCATED_NORMAL
    ctypedef struct fi_key:
        uint64_t seed
        uint64_t stream
    int FI_PLANE_REAL, FI_PLANE_IMAGINARY, FI_PLANE_CHOICES
    ctypedef struct fi_dist:
        fi_law law
        unsigned plane
        double a, b, c, d
    ctypedef struct fi_plan:
        pass
    fi_status fi_plan_make(fi_plan *plan, const fi_dist *dist, fi_dtype dtype, fi_key key)
    void fi_fill(const fi_plan *plan, void *out, uint64_t first, uint64_t count, unsigned threads, fi_watch *watch)
    ctypedef struct fi_piece:
        const fi_plan *plan
        void *out
        uint64_t first
        uint64_t count
    void fi_fill_many(const fi_piece *pieces, size_t count, unsigned threads, fi_watch *watch)
    int FI_MAX_DIMENSIONS
    ctypedef struct fi_region:
        uint64_t first
        unsigned dimensions
        uint64_t counts[64]
        int64_t strides[64]
    void fi_fill_region(const fi_plan *plan, void *out, const fi_region *block, unsigned threads, fi_watch *watch)
    uint32_t fi_words_xor(fi_key key, uint64_t count)
    void fi_map(const fi_plan *plan, const uint64_t *words, void *out, size_t count)
    double fi_exponential(double x)
    double fi_logarithm(double x)
    double fi_normal_tail(double z)
    double fi_normal_quantile_tail(double p)

    # Random orthogonal matrices
    ctypedef struct fi_haar_args:
        fi_key key
        size_t rows, columns, first, count
        double gain
        int parts
        int transposed
        void *out
    fi_status fi_haar(const fi_haar_args *args, fi_dtype dtype, unsigned threads, fi_watch *watch)

    # The deep stack
    ctypedef enum fi_activation:
        pass
    int FI_ACTIVATIONS
    ctypedef struct fi_traits:
        const char *name
        const char *definition
        const char *derivative
        const char *kinks
        const char *parameter
        const char *paper
        bint from_input, homogeneous
        double default_parameter, saturated_below, value_ulp, derivative_eps, left_ulp
    const fi_traits *fi_activation_traits
    ctypedef struct fi_layer_statistics:
        pass
    int FI_FORWARD, FI_BACKWARD
    ctypedef struct fi_stack_args:
        size_t depth, batch
        const size_t *widths
        const int *activations
        const double *parameters
        const int *residual_sources
        double alpha
        const void *const *weights
        const fi_plan *plans
        const void *const *biases
        int backward, phases
        const void *x
        const void *dy
        void *y
        void *dx
        void *const *weight_gradients
        void *const *bias_gradients
        fi_layer_statistics *statistics
        void *const *trace
        double *norms
        size_t pairs_count
        const size_t *pairs
        double *cosines
        double *pre_activation_cosines
        const fi_kernels *kernels
    size_t fi_stack_workspace(const fi_stack_args *args, fi_dtype dtype, unsigned threads)
    void fi_stack_propagate(const fi_stack_args *args, fi_dtype dtype, unsigned threads, void *workspace, fi_watch *watch)
    double fi_fma_loop(fi_dtype dtype, uint64_t rounds)
    void fi_activate(fi_activation activation, double parameter, fi_dtype dtype, const void *x, void *values,
                     void *derivatives, size_t n, fi_watch *watch)

    # Training
    ctypedef struct fi_cross_entropy_args:
        size_t batch, classes
        const void *outputs
        const int64_t *labels
        const double *probabilities
        void *gradient
    size_t fi_cross_entropy_scratch(size_t classes)
    double fi_cross_entropy(const fi_cross_entropy_args *args, fi_dtype dtype, void *scratch, size_t *correct, fi_watch *watch)
    double fi_squared_error(fi_dtype dtype, size_t n, const void *outputs, const double *targets, void *gradient,
                            fi_watch *watch)
    void fi_gather(void *out, const void *source, const int64_t *rows, size_t count, size_t bytes, fi_watch *watch)
    void fi_order(int64_t *order, const double *draws, size_t n, size_t *scratch, fi_watch *watch)
    ctypedef enum fi_optimizer:
        pass
    int FI_OPTIMIZERS
    const char *fi_optimizer_name(size_t index)
    size_t fi_optimizer_states(size_t index)
    ctypedef struct fi_parameter:
        fi_dtype dtype
        size_t count
        void *values
        void *first
        void *second
    ctypedef struct fi_descent:
        fi_optimizer optimizer
        double rate, beta_1, beta_2, epsilon, power_1, power_2
    void fi_descend(fi_descent *descent, const fi_parameter *parameters, const void *const *gradients, size_t count)

# A call from Python sets the floating-point environment for all of its arithmetic, NumPy's included.
cdef extern from "core/fpenv.h" nogil:
    ctypedef unsigned long long fi_fpenv
    fi_fpenv fi_fpenv_enter()
    void fi_fpenv_leave(fi_fpenv saved)
