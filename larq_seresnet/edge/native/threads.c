#define _GNU_SOURCE
#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/* How often an idle thread looks for new work before it sleeps: about 50 microseconds. Operators
 * often follow each other faster than a sleeping thread wakes up, but a thread that spins for
 * longer would take a core from others. */
enum { kSpins = 1000 };

typedef struct {
  EdgeThreads *threads;
  int worker;
} Worker;

struct EdgeThreads {
  int count; /* with the calling thread */
  pid_t pid;
  pthread_t *handles;
  Worker *workers;

  pthread_mutex_t mutex;
  pthread_cond_t work_arrived;
  pthread_cond_t worker_left;
  atomic_uint generation; /* goes up with each piece of work */
  bool open;              /* whether workers may still join in */
  bool quit;
  atomic_int inside; /* workers that joined and have not left */

  pthread_mutex_t busy; /* held while `edge_threads_run` uses the workers */
  EdgeTask task;
  void *argument;
  int parts;
  atomic_int taken, from_end; /* parts */
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
  __asm__ volatile("yield");
#endif
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

/* A worker that wakes up late finds the work closed and does not join, so that the caller never
 * waits for a thread that the system did not let run. */
static void *work(void *argument) {
  Worker self = *(Worker *)argument;
  EdgeThreads *threads = self.threads;
  unsigned seen = 0;
  for (;;) {
    for (int i = 0; i < kSpins && atomic_load(&threads->generation) == seen; i++) pause_cpu();
    pthread_mutex_lock(&threads->mutex);
    while (atomic_load(&threads->generation) == seen)
      pthread_cond_wait(&threads->work_arrived, &threads->mutex);
    seen = atomic_load(&threads->generation);
    bool quit = threads->quit, join = threads->open;
    if (join) atomic_fetch_add(&threads->inside, 1);
    pthread_mutex_unlock(&threads->mutex);
    if (quit) return NULL;
    if (!join) continue;

    take_parts(threads, self.worker);
    pthread_mutex_lock(&threads->mutex);
    atomic_fetch_sub(&threads->inside, 1);
    pthread_cond_signal(&threads->worker_left);
    pthread_mutex_unlock(&threads->mutex);
  }
}

static void announce(EdgeThreads *threads, bool open, bool quit) {
  pthread_mutex_lock(&threads->mutex);
  threads->open = open;
  threads->quit = quit;
  atomic_fetch_add(&threads->generation, 1);
  pthread_cond_broadcast(&threads->work_arrived);
  pthread_mutex_unlock(&threads->mutex);
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
  pthread_cond_init(&threads->worker_left, NULL);
  threads->pid = getpid();
  threads->count = 1;
  while (threads->count < count) {
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
    announce(threads, false, true);
    for (int i = 1; i < threads->count; i++) pthread_join(threads->handles[i], NULL);
    pthread_mutex_destroy(&threads->mutex);
    pthread_mutex_destroy(&threads->busy);
    pthread_cond_destroy(&threads->work_arrived);
    pthread_cond_destroy(&threads->worker_left);
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
  announce(threads, true, false);
  take_parts(threads, 0);

  for (int i = 0; i < kSpins && atomic_load(&threads->inside); i++) pause_cpu();
  pthread_mutex_lock(&threads->mutex);
  threads->open = false;
  while (atomic_load(&threads->inside))
    pthread_cond_wait(&threads->worker_left, &threads->mutex);
  pthread_mutex_unlock(&threads->mutex);
  pthread_mutex_unlock(&threads->busy);
}
