/* A fixed set of threads that share the work of one operator at a time. */
#ifndef LARQ_SERESNET_THREADS_H_
#define LARQ_SERESNET_THREADS_H_

typedef struct EdgeThreads EdgeThreads;

/* Does part `index` of the work; `worker` is below the number of threads and tells threads apart. */
typedef void (*EdgeTask)(void *argument, int worker, int index);

/* NULL where memory is short. A thread that cannot be started is done without, and so are all but the
 * caller's where there is one CPU. */
EdgeThreads *edge_threads_create(int count);
void edge_threads_destroy(EdgeThreads *threads);
int edge_threads_count(const EdgeThreads *threads);

/* Runs `task` once for each index below `parts` and returns when all are done. The caller works
 * too. Not to be called by two threads at once: an interpreter runs one operator at a time. */
void edge_threads_run(EdgeThreads *threads, EdgeTask task, void *argument, int parts);

#endif /* LARQ_SERESNET_THREADS_H_ */
