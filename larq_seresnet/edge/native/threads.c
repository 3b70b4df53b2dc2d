#define _GNU_SOURCE
#include "threads.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
  /* How long an idle thread looks for new work before it sleeps. Waking one takes the caller about
   * as long as a small operator, and between two of ours XNNPACK's may take this long. */
  kSpinNanoseconds = 100000,
  kPauses = 32, /* between two looks at the clock */
  kClosed = 1 << 16
};

typedef struct {
  EdgeThreads *threads;
  int worker;
} Worker;

struct EdgeThreads {
  int count; /* with the calling thread */
  bool spins; /* not where others wait for the CPU that it would take */
  pid_t pid;
  pthread_t *handles;
  Worker *workers;

  pthread_mutex_t busy; /* held while `edge_threads_run` uses the workers */
  EdgeTask task;
  void *argument;
  int parts;
  atomic_int taken, from_end; /* parts */

  atomic_int generation; /* goes up with each piece of work */
  atomic_int inside;      /* workers that joined and have not left, + kClosed: no more may join */
  atomic_bool quit;

  /* For those who have looked for long enough */
  pthread_mutex_t mutex;
  pthread_cond_t work_arrived, workers_left;
  atomic_int sleeping; /* workers */
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
  __asm__ volatile("yield");
#endif
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* The caller begins at the first part, workers at the last: what one of them writes is then mostly
 * what it reads in the next operator, and lies in its cache. */
static void take_parts(EdgeThreads *threads, int worker) {
  for (int own = 0;; own++) {
    if (atomic_fetch_add_explicit(&threads->taken, 1, memory_order_relaxed) >= threads->parts)
      return;
    int part = own;
    if (worker)
      part = threads->parts - 1 -
             atomic_fetch_add_explicit(&threads->from_end, 1, memory_order_relaxed);
    threads->task(threads->argument, worker, part);
  }
}

/* Looks for a while whether the number is the one that is waited for, or no longer the one that is
 * known. */
static bool spin(const EdgeThreads *threads, const atomic_int *number, int value, bool is_wanted) {
  if ((atomic_load(number) == value) == is_wanted) return true;
  if (!threads->spins) return false;
  int64_t end = now() + kSpinNanoseconds;
  do {
    for (int i = 0; i < kPauses; i++) {
      pause_cpu();
      if ((atomic_load(number) == value) == is_wanted) return true;
    }
  } while (now() < end);
  return false;
}

static void wait_for_work(EdgeThreads *threads, int seen) {
  if (spin(threads, &threads->generation, seen, false)) return;
  pthread_mutex_lock(&threads->mutex);
  atomic_fetch_add(&threads->sleeping, 1);
  while (atomic_load(&threads->generation) == seen)
    pthread_cond_wait(&threads->work_arrived, &threads->mutex);
  atomic_fetch_sub(&threads->sleeping, 1);
  pthread_mutex_unlock(&threads->mutex);
}

/* A worker that wakes up late finds the work closed and does not join, so that the caller never
 * waits for a thread that the system did not let run. */
static bool join(EdgeThreads *threads) {
  int inside = atomic_load(&threads->inside);
  while (inside < kClosed)
    if (atomic_compare_exchange_weak(&threads->inside, &inside, inside + 1)) return true;
  return false;
}

static void leave(EdgeThreads *threads) {
  if (atomic_fetch_sub(&threads->inside, 1) != kClosed + 1) return;
  pthread_mutex_lock(&threads->mutex);
  pthread_cond_signal(&threads->workers_left);
  pthread_mutex_unlock(&threads->mutex);
}

static void *work(void *argument) {
  Worker self = *(Worker *)argument;
  EdgeThreads *threads = self.threads;
  for (int seen = 0;;) {
    wait_for_work(threads, seen);
    seen = atomic_load(&threads->generation);
    if (atomic_load(&threads->quit)) return NULL;
    if (!join(threads)) continue;
    take_parts(threads, self.worker);
    leave(threads);
  }
}

static void announce(EdgeThreads *threads) {
  atomic_fetch_add(&threads->generation, 1);
  if (!atomic_load(&threads->sleeping)) return;
  pthread_mutex_lock(&threads->mutex);
  pthread_cond_broadcast(&threads->work_arrived);
  pthread_mutex_unlock(&threads->mutex);
}

/* No worker may join any more; waits for those that have. */
static void close_work(EdgeThreads *threads) {
  atomic_fetch_add(&threads->inside, kClosed);
  if (spin(threads, &threads->inside, kClosed, true)) return;
  pthread_mutex_lock(&threads->mutex);
  while (atomic_load(&threads->inside) != kClosed)
    pthread_cond_wait(&threads->workers_left, &threads->mutex);
  pthread_mutex_unlock(&threads->mutex);
}

/* How many CPUs this process may use; outside of Linux there are taken to be enough. */
static int available_cpus(void) {
#if defined(__linux__)
  cpu_set_t set;
  if (!sched_getaffinity(0, sizeof set, &set)) return CPU_COUNT(&set);
#endif
  return INT_MAX;
}

EdgeThreads *edge_threads_create(int count) {
  EdgeThreads *threads = calloc(1, sizeof *threads);
  if (!threads) return NULL;
  threads->handles = calloc((size_t)count, sizeof *threads->handles);
  threads->workers = calloc((size_t)count, sizeof *threads->workers);
  if (!threads->handles || !threads->workers) {
    free(threads->handles);
    free(threads->workers);
    free(threads);
    return NULL;
  }
  pthread_mutex_init(&threads->mutex, NULL);
  pthread_mutex_init(&threads->busy, NULL);
  pthread_cond_init(&threads->work_arrived, NULL);
  pthread_cond_init(&threads->workers_left, NULL);
  atomic_store(&threads->inside, kClosed);
  threads->pid = getpid();
  int cpus = available_cpus();
  threads->spins = count <= cpus;
  threads->count = 1;
  while (threads->count < count && cpus > 1) {
    Worker *worker = &threads->workers[threads->count];
    *worker = (Worker){threads, threads->count};
    if (pthread_create(&threads->handles[threads->count], NULL, work, worker)) break;
    threads->count++;
  }
  return threads;
}

/* A forked child has a copy of this struct but none of its threads. */
static bool alone(const EdgeThreads *threads) {
  return threads->count == 1 || threads->pid != getpid();
}

void edge_threads_destroy(EdgeThreads *threads) {
  if (!threads) return;
  if (!alone(threads)) {
    atomic_store(&threads->quit, true);
    announce(threads);
    for (int i = 1; i < threads->count; i++) pthread_join(threads->handles[i], NULL);
    pthread_mutex_destroy(&threads->mutex);
    pthread_mutex_destroy(&threads->busy);
    pthread_cond_destroy(&threads->work_arrived);
    pthread_cond_destroy(&threads->workers_left);
  }
  free(threads->handles);
  free(threads->workers);
  free(threads);
}

int edge_threads_count(const EdgeThreads *threads) { return threads->count; }

void edge_threads_run(EdgeThreads *threads, EdgeTask task, void *argument, int parts) {
  /* Where another interpreter on another thread has the workers, this one works alone. */
  if (parts < 2 || alone(threads) || pthread_mutex_trylock(&threads->busy)) {
    for (int i = 0; i < parts; i++) task(argument, 0, i);
    return;
  }
  threads->task = task;
  threads->argument = argument;
  threads->parts = parts;
  atomic_store(&threads->taken, 0);
  atomic_store(&threads->from_end, 0);
  atomic_store(&threads->inside, 0);
  announce(threads);
  take_parts(threads, 0);
  close_work(threads);
  pthread_mutex_unlock(&threads->busy);
}
