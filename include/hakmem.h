/*
 * hakmem.h: the public interface of hakmem, a malloc whose threads never wait for each other.
 *
 * Each function is the one of the C library without its prefix, and libhakmem.so and libhakmem.a
 * define those names as well, and dlopen (README.md says why). libhakmem-prefixed.a defines the
 * prefixed ones only, for a program that wants hakmem beside its C library's allocator.
 *
 * Unless a function says otherwise:
 * - sizes and alignments are bytes; sizes above PTRDIFF_MAX, and any for which there are no addresses, fail;
 * - a failed allocation returns NULL and sets errno to ENOMEM; what it was given is as before;
 * - blocks are aligned to 16 bytes, those of 0 bytes are unique and can be freed;
 * - any thread may call it at any time, and so may a signal handler, whatever it interrupts (AS-safe);
 * - it takes no lock and waits for no thread; it may wait for the kernel, in mmap, munmap, mremap,
 *   madvise and page faults;
 * - a block that is not hakmem's is handed to the C library, with all that its functions do and don't promise.
 *
 * In the child of a fork from a process with threads, all of it works at once.
 */
#ifndef HAKMEM_H
#define HAKMEM_H

#include <malloc.h> /* struct mallinfo, struct mallinfo2 */
#include <stddef.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HAK_API __attribute__((visibility("default")))

/* `size` bytes, of any contents. */
HAK_API void *hak_malloc(size_t size);
/* `count` times `size` bytes of zeroes; ENOMEM if the product overflows. */
HAK_API void *hak_calloc(size_t count, size_t size);
/* Makes the block `size` bytes long, moving it if need be; its contents stay, up to the shorter of
 * both lengths. NULL is allocated; a size of 0 frees the block and returns NULL. On failure the
 * block is as it was. A block over 4 MiB, or made longer than 1 MiB before, is mostly moved by page
 * tables when it grows; it is copied to where there are pages enough for it to grow on. */
HAK_API void *hak_realloc(void *block, size_t size);
/* The same for `count` times `size` bytes; ENOMEM if the product overflows. */
HAK_API void *hak_reallocarray(void *block, size_t count, size_t size);
/* Frees a block of hakmem's; NULL is nothing. errno is kept. A pointer that is not hakmem's is
 * handed to the C library's free. A double free that is noticed ends the process with a line on
 * stderr. */
HAK_API void hak_free(void *block);
/* C23: the size, and the alignment, that the block was asked for with. They are not needed. */
HAK_API void hak_free_sized(void *block, size_t size);
HAK_API void hak_free_aligned_sized(void *block, size_t alignment, size_t size);

/* A block whose address is a multiple of `alignment`, a power of two; else EINVAL. */
HAK_API void *hak_aligned_alloc(size_t alignment, size_t size);
/* The same, but an alignment that is no power of two is rounded up to one. */
HAK_API void *hak_memalign(size_t alignment, size_t size);
/* As aligned_alloc, of `alignment` a power of two and a multiple of sizeof(void *). Returns 0,
 * EINVAL, or ENOMEM, which errno says as well; on failure *block is left alone. */
HAK_API int hak_posix_memalign(void **block, size_t alignment, size_t size);
/* A block aligned to a page; pvalloc rounds its size up to pages too. */
HAK_API void *hak_valloc(size_t size);
HAK_API void *hak_pvalloc(size_t size);

/* How many bytes of the block may be used: what was asked for, or more. 0 for NULL. */
HAK_API size_t hak_malloc_usable_size(const void *block);

/* Gives back to the system what hakmem keeps for later: parked heaps, the calling thread's bins,
 * what is free in other threads' slabs and the buffers that they keep, free pages, cached large
 * blocks. `pad` bytes of free pages are kept. Returns 1 if there was anything. */
HAK_API int hak_malloc_trim(size_t pad);

/* Statistics of the whole process. They look at other threads' heaps while these run: each figure
 * was true at some moment, and they need not add up. Not AS-safe, and may wait for the loader or
 * stdio.
 *   arena     bytes of the segments           hblks, hblkhd  whales: number, bytes
 *   uordblks  bytes of blocks in use and their room to grow, in bins of other threads that live, or on their way to other heaps
 *   fordblks  bytes free in segments
 *   keepcost  bytes that malloc_trim(0) could give back at once
 * mallinfo's are ints, and stop at INT_MAX. */
HAK_API struct mallinfo hak_mallinfo(void);
HAK_API struct mallinfo2 hak_mallinfo2(void);
/* Writes the same, and a line a size class, in which what is in bins counts as used, as XML.
 * `options` must be 0, else EINVAL and -1. */
HAK_API int hak_malloc_info(int options, FILE *stream);
/* Writes the same to stderr, as text. */
HAK_API void hak_malloc_stats(void);
/* M_TRIM_THRESHOLD: bytes of free pages that are kept (as HAKMEM_PURGE_KIB). M_MMAP_THRESHOLD and
 * the other parameters of glibc are taken and do nothing. Returns 1, or 0 for an unknown one. */
HAK_API int hak_mallopt(int parameter, int value);

#ifdef __cplusplus
}
#endif

#endif
