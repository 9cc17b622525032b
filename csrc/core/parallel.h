/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FI_PARALLEL_H
#define FI_PARALLEL_H

#include "core/watch.h"

/* WebAssembly: without Emscripten's threads there are none (WASI has no signals to block either). */
#if defined(__wasm__) && !defined(__EMSCRIPTEN_PTHREADS__)
#define FI_HAS_THREADS 0
#else
#define FI_HAS_THREADS 1
#endif

/* A counter that threads take tickets from: fi_ticket returns its old value. */
#if FI_MSVC
#include <intrin.h>
typedef volatile long long fi_counter;
#define fi_ticket(counter) ((uint64_t)_InterlockedExchangeAdd64((counter), 1))
#define fi_read(counter) ((uint64_t)_InterlockedExchangeAdd64((counter), 0))
#else
typedef uint64_t fi_counter;
#define fi_ticket(counter) __atomic_fetch_add((counter), 1, __ATOMIC_ACQ_REL)
#define fi_read(counter) __atomic_load_n((counter), __ATOMIC_ACQUIRE)
#endif

/* Returns when the counter has reached `value`, or the watch has stopped. Only for what workers that already run will count: it
 * might wait for ever for another. */
void fi_wait_until(fi_counter *counter, uint64_t value, fi_watch *watch);

/* Runs work(context, worker, workers) for worker = 0 .. workers-1, worker 0 in the calling
 * thread, the others in threads that are made and joined inside this call. Where a thread cannot be made, the caller
 * does its work too, after its own: so `work` must not wait for another worker to start, only for what one has begun. Each
 * worker has the kernels' floating-point environment. `work` asks the watch itself whether to go on; the calling thread
 * asks here, too, while it waits for the others. */
void fi_parallel(unsigned workers, void (*work)(void *context, unsigned worker, unsigned workers),
                 void *context, fi_watch *watch);

#endif
