/*
 * park_trace.c: see park_trace.h.
 *
 * A breakpoint is written to the process's memory while all of its threads run: one byte, so each
 * fetches the old or the new. Who hits it while it is taken away again stops later: it is set back
 * and goes on.
 *
 * A thread in a system call has its program counter in libc's stub; it counts as inside if the
 * stub's return address is in the allocator.
 */
#include "park_trace.h"
#include "park_shared.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MOST 256
#define PLANTS_MOST  16
#define STACK_WORDS  12 /* that are searched for a stub's return address */
#define GLIBC_FILES  "malloc.c arena.c hooks.c malloc-check.c"
#define GLIBC_RADIUS (64u << 10) /* its allocator lies this close around malloc */

struct thread {
    pid_t tid;
    unsigned began;
};

struct stub {
    uint64_t first, end;
};

static pid_t process;
static int memory = -1;
static struct map map;
static uint64_t base;
static struct stub stubs[8];
static size_t stub_count;
static struct thread threads[THREADS_MOST];
static size_t thread_count;
static unsigned epoch;
static struct plant {
    uint64_t address;
    unsigned char byte;
} plants[PLANTS_MOST];
static size_t plant_count;

static void __attribute__((noreturn)) fail(const char *what, const char *which)
{
    fprintf(stderr, "park: %s %s: %s; giving up\n", what, which, strerror(errno));
    exit(2);
}

/* ---- start ---- */

static void child(char *const command[], const char *library, const char *also, int fd, int go)
{
    char byte, both[4096];
    snprintf(both, sizeof both, "%s%s%s", also != NULL ? also : "", also != NULL ? ":" : "",
             library);
    if (read(go, &byte, 1) != 1 || dup2(fd, PARK_FD) < 0)
        _exit(2);
    if (strcmp(library, "system") != 0)
        setenv("LD_PRELOAD", both, 1);
    setenv("LD_BIND_NOW", "1", 1); /* the linker's lock is not the allocator's */
    execv(command[0], command);
    _exit(2);
}

/* Where `file` is mapped in a process; 0: nowhere. */
static uint64_t base_of(pid_t pid, const char *file)
{
    char path[64], line[1024];
    uint64_t found = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "r");
    while (maps != NULL && found == 0 && fgets(line, sizeof line, maps) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *name = strchr(line, '/');
        if (name != NULL && strcmp(name, file) == 0)
            found = strtoull(line, NULL, 16);
    }
    if (maps != NULL)
        fclose(maps);
    return found;
}

static const char *libc_path(uint64_t *malloc_offset)
{
    Dl_info info;
    static char path[1024];
    if (dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) == 0 || realpath(info.dli_fname, path) == NULL)
        fail("finding", "libc");
    *malloc_offset = (uint64_t)dlsym(RTLD_DEFAULT, "malloc") - (uint64_t)info.dli_fbase;
    return path;
}

/* libc is mapped at another address there. */
static void find_stubs(uint64_t libc_base)
{
    static const char *const names[] = {"mmap",    "munmap",   "madvise", "mremap",
                                        "syscall", "mprotect", "sbrk",    "brk"};
    stub_count = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Dl_info info;
        ElfW(Sym) * symbol;
        void *at = dlsym(RTLD_DEFAULT, names[i]);
        if (at == NULL || dladdr1(at, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0)
            continue;
        uint64_t first = (uint64_t)at - (uint64_t)info.dli_fbase + libc_base;
        stubs[stub_count++] = (struct stub){first, first + symbol->st_size};
    }
}

static void read_map(const char *library, uint64_t malloc_offset)
{
    if (map.places != 0)
        return;
    if (malloc_offset != 0)
        map = map_read(library, malloc_offset - GLIBC_RADIUS, malloc_offset + GLIBC_RADIUS,
                       GLIBC_FILES);
    else
        map = map_read(library, 0, 0, NULL);
}

/* The process is past its exec once its libraries are mapped. */
static void find_library(const char *library)
{
    char path[4096];
    uint64_t malloc_offset, libc_base = 0;
    const char *libc = libc_path(&malloc_offset);
    bool system = strcmp(library, "system") == 0;
    if (realpath(system ? libc : library, path) == NULL)
        fail("finding", library);
    read_map(path, system ? malloc_offset : 0);
    for (unsigned tries = 0; tries < 5000 && (base == 0 || libc_base == 0); tries++) {
        trace_next(1000);
        base = base_of(process, path);
        libc_base = base_of(process, libc);
    }
    if (base == 0 || libc_base == 0)
        fail("the workload has not loaded", path);
    find_stubs(libc_base);
}

static void open_memory(void)
{
    char path[64];
    if (memory >= 0)
        close(memory);
    snprintf(path, sizeof path, "/proc/%d/mem", process);
    memory = open(path, O_RDWR | O_CLOEXEC);
    if (memory < 0)
        fail("opening", path);
}

void trace_start(char *const command[], const char *library, const char *also, int fd)
{
    int go[2];
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    if (pipe(go) != 0 || (process = fork()) < 0)
        fail("starting", command[0]);
    if (process == 0)
        child(command, library, also, fd, go[0]);
    if (ptrace(PTRACE_SEIZE, process, 0, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL) != 0)
        fail("tracing", command[0]);
    thread_count = plant_count = 0;
    threads[thread_count++] = (struct thread){process, epoch};
    base = 0;
    if (write(go[1], "", 1) != 1)
        fail("starting", command[0]);
    close(go[0]);
    close(go[1]);
    find_library(library);
    open_memory();
}

void trace_end(void)
{
    kill(process, SIGKILL);
    while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
        continue;
}

struct map *trace_map(void)
{
    return &map;
}

/* ---- events ---- */

void trace_epoch(unsigned now)
{
    epoch = now;
}

static struct thread *thread_of(pid_t tid)
{
    for (size_t i = 0; i < thread_count; i++)
        if (threads[i].tid == tid)
            return &threads[i];
    return NULL;
}

/* True if it was not known: then this is its first stop. */
static bool remember(pid_t tid)
{
    if (thread_of(tid) != NULL)
        return false;
    if (thread_count == THREADS_MOST)
        fail("tracing", "so many threads");
    threads[thread_count++] = (struct thread){tid, epoch};
    return true;
}

static struct trace_event forget(pid_t tid)
{
    struct thread *t = thread_of(tid);
    struct trace_event event = {tid == process ? TRACE_DIED : TRACE_EXIT, tid,
                                t != NULL ? t->began : 0};
    if (t != NULL)
        *t = threads[--thread_count];
    return event;
}

static bool is_in_map(uint64_t address)
{
    return map_at(&map, address - base) != NULL;
}

/* A thread that has run into an int3: of ours, now or a moment ago; or of its own. */
static enum trace_kind trapped(pid_t tid)
{
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, tid, 0, &regs) != 0)
        return TRACE_NOTHING;
    if (!is_in_map(regs.rip - 1))
        return TRACE_TRAP;
    regs.rip--;
    ptrace(PTRACE_SETREGS, tid, 0, &regs);
    bool first = false;
    for (size_t i = 0; i < plant_count; i++)
        first = first || plants[i].address == regs.rip;
    trace_clear();
    if (!first)
        trace_continue(tid);
    return first ? TRACE_HIT : TRACE_NOTHING;
}

static enum trace_kind sort_trap(pid_t tid)
{
    siginfo_t info;
    if (ptrace(PTRACE_GETSIGINFO, tid, 0, &info) != 0)
        return TRACE_NOTHING;
    if (info.si_code == TRAP_TRACE)
        return TRACE_STEPPED;
    return info.si_code == SI_KERNEL ? trapped(tid) : TRACE_STEPPED;
}

static enum trace_kind sort_stop(pid_t tid, int status)
{
    int event = status >> 16, signal = WSTOPSIG(status);
    if (event == PTRACE_EVENT_STOP) {
        if (!remember(tid))
            return TRACE_STOPPED;
    } else if (event == 0 && signal == SIGTRAP) {
        return sort_trap(tid);
    }
    ptrace(PTRACE_CONT, tid, 0, event == 0 ? signal : 0);
    return TRACE_NOTHING;
}

static struct trace_event sort(pid_t tid, int status)
{
    if (!WIFSTOPPED(status))
        return forget(tid);
    return (struct trace_event){.kind = sort_stop(tid, status), .tid = tid};
}

struct trace_event trace_next(unsigned us)
{
    uint64_t end = park_now() + us * 1000ull;
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    for (;;) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);
        struct trace_event event = {0};
        if (tid > 0)
            event = sort(tid, status);
        if (event.kind != TRACE_NOTHING)
            return event;
        uint64_t now = park_now();
        if (now >= end)
            return event;
        struct timespec left = {0, (long)(end - now < 999999999 ? end - now : 999999999)};
        if (tid <= 0)
            sigtimedwait(&children, NULL, &left);
    }
}

/* ---- threads ---- */

void trace_interrupt(pid_t tid)
{
    ptrace(PTRACE_INTERRUPT, tid, 0, 0);
}

void trace_step(pid_t tid)
{
    ptrace(PTRACE_SINGLESTEP, tid, 0, 0);
}

void trace_continue(pid_t tid)
{
    ptrace(PTRACE_CONT, tid, 0, 0);
}

static bool is_stub(uint64_t address)
{
    for (size_t i = 0; i < stub_count; i++)
        if (address >= stubs[i].first && address < stubs[i].end)
            return true;
    return false;
}

struct where trace_where(pid_t tid)
{
    struct user_regs_struct regs;
    uint64_t stack[STACK_WORDS] = {0};
    if (ptrace(PTRACE_GETREGS, tid, 0, &regs) != 0)
        return (struct where){0};
    struct where where = {map_at(&map, regs.rip - base), false};
    if (where.place != NULL || !is_stub(regs.rip))
        return where;
    if (pread(memory, stack, sizeof stack, (off_t)regs.rsp) <= 0)
        return where;
    for (size_t i = 0; i < STACK_WORDS && where.place == NULL; i++)
        where = (struct where){map_at(&map, stack[i] - base), true};
    return where;
}

char trace_state(pid_t tid, uint64_t *ran_ns)
{
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", process, tid);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    *ran_ns = fgets(line, sizeof line, f) != NULL ? strtoull(line, NULL, 10) : 0;
    fclose(f);
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", process, tid);
    f = fopen(path, "r");
    char *end = f != NULL && fgets(line, sizeof line, f) != NULL ? strrchr(line, ')') : NULL;
    if (f != NULL)
        fclose(f);
    if (end == NULL)
        return 0;
    return end[2];
}

void trace_say_threads(FILE *to)
{
    for (size_t i = 0; i < thread_count; i++) {
        char path[64], line[256] = "";
        uint64_t ran;
        snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", process, threads[i].tid);
        FILE *f = fopen(path, "r");
        if (f != NULL && fgets(line, sizeof line, f) == NULL)
            *line = '\0';
        if (f != NULL)
            fclose(f);
        line[strcspn(line, "\n")] = '\0';
        fprintf(to, "    thread %d, begun in window %u: %c, system call %s\n", threads[i].tid,
                threads[i].began, trace_state(threads[i].tid, &ran), line);
    }
}

/* ---- breakpoints ---- */

void trace_plant(const struct place *p)
{
    struct plant *plant = &plants[plant_count];
    const unsigned char int3 = 0xcc;
    plant->address = base + p->offset;
    for (size_t i = 0; i < plant_count; i++)
        if (plants[i].address == plant->address)
            return;
    if (plant_count == PLANTS_MOST || pread(memory, &plant->byte, 1, (off_t)plant->address) != 1 ||
        pwrite(memory, &int3, 1, (off_t)plant->address) != 1)
        return;
    plant_count++;
}

void trace_clear(void)
{
    for (size_t i = 0; i < plant_count; i++)
        if (pwrite(memory, &plants[i].byte, 1, (off_t)plants[i].address) != 1)
            fail("restoring", "an instruction");
    plant_count = 0;
}
