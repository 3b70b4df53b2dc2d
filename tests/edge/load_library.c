/* Loads the delegate on Windows as a runtime would: load_library LIBRARY prints its kernels. */
#include <stdio.h>
#include <windows.h>

typedef const char *(*Kernels)(void);
typedef void *(*Create)(const char *const *keys, const char *const *values, size_t count,
                        void (*report_error)(const char *));
typedef void (*Destroy)(void *delegate);

static void report(const char *message) { printf("error: %s\n", message); }

int main(int count, char **arguments) {
  HMODULE library = count == 2 ? LoadLibraryA(arguments[1]) : NULL;
  if (!library) return 1;
  Kernels kernels = (Kernels)GetProcAddress(library, "larq_seresnet_kernels");
  Create create = (Create)GetProcAddress(library, "tflite_plugin_create_delegate");
  Destroy destroy = (Destroy)GetProcAddress(library, "tflite_plugin_destroy_delegate");
  const char *keys[] = {"num_threads"}, *values[] = {"4"}, *wrong[] = {"0"};
  for (int i = 0; i < 20; i++) { /* starts the threads, and ends them */
    void *delegate = create(keys, values, 1, report);
    if (!delegate) return 2;
    destroy(delegate);
  }
  if (create(keys, wrong, 1, report)) return 3;
  puts(kernels());
  return 0;
}
