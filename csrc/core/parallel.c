/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads that are made and joined inside one call. No pool of threads: it would have to survive fork, and a thread that
 * sleeps on a condition variable wakes no faster than a new one starts (measured: 33 us to start one, 46 us to wake one).
 * No OpenMP: libgomp hangs in a forked child.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* affinity, where there is such a thing */
#endif
#include "core/parallel.h"

#include <stdlib.h>

#include "core/fpenv.h"

#define FI_MAX_WORKERS 256
/* Bytes of a thread's stack. No kernel takes more than 16 KiB, as the caller's own stack may be as small as 32 KiB; but static
 * thread-local memory of libraries is taken out of it too. Pages that nobody touches cost nothing. */
#define FI_STACK (1024 * 1024)

#if FI_HAS_THREADS && defined(__linux__) && defined(__GLIBC__)
#define FI_GLIBC 1
#include <sched.h>
typedef struct {
    cpu_set_t all, others; /* the CPUs of the calling thread, and those but the one that it runs on */
    int known;
} fi_cpus;
#else
#define FI_GLIBC 0
typedef int fi_cpus;
#endif

typedef struct {
    void (*work)(void *context, unsigned worker, unsigned workers);
    void *context;
    unsigned worker, workers;
    const fi_cpus *cpus;
    fi_counter ended; /* 1 when the work is done */
} fi_task;

static void run(const fi_task *task) {
    fi_fpenv saved = fi_fpenv_enter();
    task->work(task->context, task->worker, task->workers);
    fi_fpenv_leave(saved);
}

#if !FI_HAS_THREADS

void fi_wait_until(fi_counter *counter, uint64_t value, fi_watch *watch) { (void)counter, (void)value, (void)watch; }

void fi_parallel(unsigned workers, void (*work)(void *, unsigned, unsigned), void *context, fi_watch *watch) {
    (void)watch;
    for (unsigned i = 0; i < workers; i++) {
        const fi_task task = {work, context, i, workers, NULL, 0};
        run(&task);
    }
}

#else

#if FI_X86
#include <immintrin.h>
#define FI_PAUSE() _mm_pause()
#else
#define FI_PAUSE() ((void)0)
#endif
/* A thread that waits spins for so many looks, some 60 us, then yields its CPU so many times, some 300 us more where nobody else
 * wants it, and only then sleeps. */
#define FI_LOOKS 4096
#define FI_YIELDS 1024
#define FI_NAP 20 /* milliseconds that the calling thread sleeps at most before it asks the watch again */

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <process.h>
#include <windows.h>
typedef HANDLE fi_thread;
static void look_at_cpus(fi_cpus *cpus) { *cpus = 0; }
static unsigned __stdcall entry(void *task) {
    run((const fi_task *)task);
    return 0;
}
static int thread_start(fi_thread *thread, fi_task *task) {
    *thread = (HANDLE)_beginthreadex(NULL, FI_STACK, entry, task, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    return *thread != 0;
}
static void thread_join(fi_thread thread, fi_task *task, fi_watch *watch) {
    (void)task;
    while (WaitForSingleObject(thread, watch ? FI_NAP : INFINITE) == WAIT_TIMEOUT) fi_stopped(watch);
    CloseHandle(thread);
}
static void fi_yield(void) { SwitchToThread(); }
#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
typedef pthread_t fi_thread;

/* After a pause, Linux may start a new thread on the CPU of the thread that made it, and leave it there for longer than the work
 * takes. So it is started on any other CPU, and may move from then on. */
#if FI_GLIBC
static void look_at_cpus(fi_cpus *cpus) {
    const int here = sched_getcpu();
    cpus->known = here >= 0 && here < CPU_SETSIZE && sched_getaffinity(0, sizeof cpus->all, &cpus->all) == 0;
    if (!cpus->known) return;
    cpus->others = cpus->all;
    CPU_CLR(here, &cpus->others);
    cpus->known = CPU_COUNT(&cpus->others) > 0;
}
static void start_elsewhere(pthread_attr_t *attributes, const fi_cpus *cpus) {
    if (cpus->known) pthread_attr_setaffinity_np(attributes, sizeof cpus->others, &cpus->others);
}
static void start_anywhere(pthread_attr_t *attributes, const fi_cpus *cpus) {
    pthread_attr_setaffinity_np(attributes, 0, &cpus->all); /* none: no CPUs are asked for */
}
static void move_freely(const fi_cpus *cpus) {
    if (cpus->known) sched_setaffinity(0, sizeof cpus->all, &cpus->all);
}
#else
static void look_at_cpus(fi_cpus *cpus) { *cpus = 0; }
static void start_elsewhere(pthread_attr_t *attributes, const fi_cpus *cpus) { (void)attributes, (void)cpus; }
static void start_anywhere(pthread_attr_t *attributes, const fi_cpus *cpus) { (void)attributes, (void)cpus; }
static void move_freely(const fi_cpus *cpus) { (void)cpus; }
#endif

static void *entry(void *task) {
    move_freely(((const fi_task *)task)->cpus);
    run((const fi_task *)task);
    fi_ticket(&((fi_task *)task)->ended);
    return NULL;
}
static int thread_start(fi_thread *thread, fi_task *task) {
    /* Signals are left to the interpreter's threads, as a handler must not run on a small stack. But a fault (as of a mapped
     * file that was truncated) is delivered to the thread that caused it, and blocking it is undefined behaviour. */
    static const int faults[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV};
    sigset_t blocked, saved;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&blocked, faults[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &saved);
    pthread_attr_t attributes;
    int started = 0;
    if (pthread_attr_init(&attributes) == 0) {
        pthread_attr_setstacksize(&attributes, FI_STACK);
        start_elsewhere(&attributes, task->cpus);
        started = pthread_create(thread, &attributes, entry, task) == 0;
        if (!started && FI_GLIBC) { /* a sandbox may forbid to choose CPUs, or they have just changed */
            start_anywhere(&attributes, task->cpus);
            started = pthread_create(thread, &attributes, entry, task) == 0;
        }
        pthread_attr_destroy(&attributes);
    }
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
    return started;
}
static void fi_yield(void) { sched_yield(); }
/* It spins before it sleeps: the others are about to finish, and to be woken on an idle CPU takes 30 us. */
static void thread_join(fi_thread thread, fi_task *task, fi_watch *watch) {
#if FI_GLIBC
    (void)task;
    for (unsigned looks = 0; looks < FI_LOOKS + FI_YIELDS; looks++) {
        if (pthread_tryjoin_np(thread, NULL) == 0) return;
        if (looks < FI_LOOKS) FI_PAUSE();
        else fi_yield();
    }
    while (watch) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += FI_NAP * 1000000L;
        if (until.tv_nsec >= 1000000000L) until.tv_nsec -= 1000000000L, until.tv_sec++;
        if (pthread_timedjoin_np(thread, NULL, &until) == 0) return;
        fi_stopped(watch);
    }
#else
    /* There is no join with a time limit here: naps of a millisecond, as nothing ends them early. */
    for (unsigned looks = 0; watch && fi_read(&task->ended) == 0; looks++) {
        const struct timespec nap = {0, 1000000L};
        if (looks < FI_LOOKS) FI_PAUSE();
        else if (looks < FI_LOOKS + FI_YIELDS) fi_yield();
        else nanosleep(&nap, NULL), fi_stopped(watch);
    }
#endif
    pthread_join(thread, NULL);
}
#endif

/* It spins before it yields: other workers are about to finish pieces as long as its own. */
void fi_wait_until(fi_counter *counter, uint64_t value, fi_watch *watch) {
    for (unsigned looks = 0; fi_read(counter) < value; looks++) {
        if (looks < FI_LOOKS) {
            FI_PAUSE();
        } else {
            fi_yield();
            if (fi_stopped(watch)) return;
        }
    }
}

typedef struct {
    fi_thread thread;
    int started;
    fi_task task;
} helper;

void fi_parallel(unsigned workers, void (*work)(void *, unsigned, unsigned), void *context, fi_watch *watch) {
    if (workers > FI_MAX_WORKERS) workers = FI_MAX_WORKERS;
    fi_cpus cpus;
    helper *helpers = NULL; /* on the heap, as the caller's stack may be small */
    if (workers > 1) {
        look_at_cpus(&cpus);
        helpers = malloc((workers - 1) * sizeof *helpers);
    }
    for (unsigned i = 1; i < workers && helpers; i++) {
        helper *one = &helpers[i - 1];
        one->task = (fi_task){work, context, i, workers, &cpus, 0};
        one->started = thread_start(&one->thread, &one->task);
    }
    const fi_task own = {work, context, 0, workers, NULL, 0};
    if (workers > 0) run(&own);
    for (unsigned i = 1; i < workers; i++) {
        const fi_task instead = {work, context, i, workers, NULL, 0};
        if (helpers && helpers[i - 1].started) thread_join(helpers[i - 1].thread, &helpers[i - 1].task, watch);
        else run(&instead);
    }
    free(helpers);
}

#endif

unsigned fi_threads_for(uint64_t bytes, unsigned limit) {
    /* Below 2 MiB a second thread costs more time than it saves; above, one for each MiB. */
    uint64_t useful = bytes < (2u << 20) ? 1 : bytes >> 20;
    if (limit > FI_MAX_WORKERS) limit = FI_MAX_WORKERS;
    if (limit == 0) limit = 1;
    return useful < limit ? (unsigned)useful : limit;
}
