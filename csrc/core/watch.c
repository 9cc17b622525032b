/* SPDX-License-Identifier: BSD-3-Clause
 *
 * When a long call asks whether to go on: by the clock, as a piece of work takes longer on one machine than on another.
 */
#if !defined(_WIN32) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L /* a monotonic clock */
#endif
#include "core/watch.h"

#include "core/parallel.h"

/* Milliseconds. The answer may take 5 more where another thread of Python is busy, as that gives up the interpreter's lock no
 * sooner. */
#define FI_ASK_EVERY 50

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
static uint64_t now(void) { return GetTickCount64(); }
static uint64_t this_thread(void) { return GetCurrentThreadId(); }
#else
#include <time.h>
static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}
#if FI_HAS_THREADS
#include <pthread.h>
static uint64_t this_thread(void) { return (uint64_t)(uintptr_t)pthread_self(); }
#else
static uint64_t this_thread(void) { return 0; }
#endif
#endif

#if FI_MSVC
#define LOAD(flag) (flag)
#define STORE(flag, value) ((flag) = (value))
#else
#define LOAD(flag) __atomic_load_n(&(flag), __ATOMIC_ACQUIRE)
#define STORE(flag, value) __atomic_store_n(&(flag), (value), __ATOMIC_RELEASE)
#endif

void fi_watch_begin(fi_watch *watch, int (*ask)(void *context), void *context) {
    watch->ask = ask;
    watch->context = context;
    watch->stopped = 0;
    watch->caller = this_thread();
    watch->next = now() + FI_ASK_EVERY;
}

int fi_watch_stopped(fi_watch *watch) {
    if (LOAD(watch->stopped)) return 1;
    if (watch->caller != this_thread() || now() < watch->next) return 0;
    const int stopped = watch->ask(watch->context) != 0;
    if (stopped) STORE(watch->stopped, 1);
    watch->next = now() + FI_ASK_EVERY;
    return stopped;
}
