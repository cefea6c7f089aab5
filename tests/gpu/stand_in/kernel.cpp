// The kernels of MAIN_FILE, by name, as a C function: in a library, or in a program that runs one on
// what a file holds.
#include MAIN_FILE

#include <cstring>

extern "C" void stand_in_run(void (*kernel)(void*), void* task, long long blocks, long long threads,
                             long long shared_bytes, unsigned seed);

template <void (*kernel)(Task)>
static void run(void* task) {
  kernel(*(Task*)task);
}

static const struct {
  const char* name;
  void (*run)(void*);
} ALL[] = {
#define ENTRY(name) {#name, run<name>},
    ENTRIES};

struct Sizes {
  long long blocks, threads, shared_bytes, seed;
};

extern "C" long long task_bytes() { return sizeof(Task); }
extern "C" void launch(const char* name, void* task, const Sizes* sizes) {
  for (const auto& one : ALL)
    if (!strcmp(one.name, name))
      stand_in_run(one.run, task, sizes->blocks, sizes->threads, sizes->shared_bytes,
                   (unsigned)sizes->seed);
}

#ifdef PROGRAM
#include <cstdio>
#include <cstdlib>
#include <vector>

// The file: sizes; then for each field of the task a number, 0 for a plain field or one more than
// the bytes of a buffer, and the field or the buffer. Buffers have no byte more, so that a
// sanitizer sees what lies outside. They are written back at the end.
int main(int, char** arguments) {
  FILE* file = fopen(arguments[2], "r+b");
  Sizes sizes;
  long long size;
  if (!file || fread(&sizes, sizeof sizes, 1, file) != 1) return 2;
  std::vector<char*> buffers;
  std::vector<long long> bytes;
  u64 fields[sizeof(Task) / 8];
  for (u64& field : fields) {
    if (fread(&size, 8, 1, file) != 1) return 2;
    char* buffer = size ? (char*)malloc(size - 1) : (char*)&field;
    const size_t wanted = size ? size - 1 : 8;
    if (fread(buffer, 1, wanted, file) != wanted) return 2;
    buffers.push_back(buffer), bytes.push_back(size);
    if (size) field = (u64)buffer;
  }
  launch(arguments[1], fields, &sizes);
  fseek(file, sizeof sizes, SEEK_SET);
  for (size_t i = 0; i < buffers.size(); i++) {
    fwrite(&bytes[i], 8, 1, file);
    fwrite(buffers[i], 1, bytes[i] ? bytes[i] - 1 : 8, file);
  }
  return fclose(file);
}
#endif
