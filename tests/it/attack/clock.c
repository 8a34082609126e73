/* Shifts the wall clock of one process by the seconds that stand in the file FANWIRE_TEST_CLOCK. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile const long long *shift;

__attribute__((constructor)) static void map_shift(void) {
    int file = open(getenv("FANWIRE_TEST_CLOCK"), O_RDONLY);
    void *mapped = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) abort();
    shift = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (clock == CLOCK_REALTIME && shift) time->tv_sec += *shift;
    return result;
}
