// A kernel as a C function: in a library, or in a program that runs it on what a file holds.
#include "warps.cu"

extern "C" void stand_in_run(void (*kernel)(void*), void* task, long long warps,
                             long long shared_bytes, unsigned seed);

static void run(void* task) { sample_warps(*(Task*)task); }

extern "C" long long task_bytes() { return sizeof(Task); }
extern "C" void launch(Task* task, long long warps, long long shared_bytes, unsigned seed) {
  stand_in_run(run, task, warps, shared_bytes, seed);
}

#ifdef PROGRAM
#include <cstdio>
#include <cstdlib>
#include <vector>

// The file: warps, bytes of shared memory, seed; then for each field of the task a number, 0 for
// a plain field or one more than the bytes of a buffer, and the field or the buffer. Buffers have
// no byte more, so that a sanitizer sees what lies outside. They are written back at the end.
int main(int, char** arguments) {
  FILE* file = fopen(arguments[1], "r+b");
  long long head[3], size;
  if (!file || fread(head, 8, 3, file) != 3) return 2;
  std::vector<char*> buffers;
  std::vector<long long> sizes;
  u64 fields[sizeof(Task) / 8];
  for (u64& field : fields) {
    if (fread(&size, 8, 1, file) != 1) return 2;
    char* buffer = size ? (char*)malloc(size - 1) : (char*)&field;
    const size_t wanted = size ? size - 1 : 8;
    if (fread(buffer, 1, wanted, file) != wanted) return 2;
    buffers.push_back(buffer), sizes.push_back(size);
    if (size) field = (u64)buffer;
  }
  launch((Task*)fields, head[0], head[1], (unsigned)head[2]);
  fseek(file, 24, SEEK_SET);
  for (size_t i = 0; i < buffers.size(); i++) {
    fwrite(&sizes[i], 8, 1, file);
    fwrite(buffers[i], 1, sizes[i] ? sizes[i] - 1 : 8, file);
  }
  return fclose(file);
}
#endif
