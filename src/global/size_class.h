/*
 * size_class.h: which class serves a size. Sixteen-byte steps to 128, then four classes a doubling,
 * so that at most a fifth of a block is slack and no size falls between two tiers. From 32 KiB on
 * blocks are whole units, as those of a slab of the last class are: that gives them a place in
 * bins.
 *
 *     Tiny    1 B .. 1 KiB       slabs                  20 classes
 *     L2      .. 64 KiB          slabs                  21 classes
 *     L2.5    .. 4 MiB           runs of 64 KiB units   (global/run.h)
 *     Whale   above              a mapping of its own   (global/whale.h)
 *
 * What realloc has made longer than 1 MiB is a whale, which grows without a copy; blocks of 1 to 4
 * MiB are where programs write to little of them (global/touched.h), or no segment is to be mapped.
 *
 * SYNCHRONIZATION: constant tables.
 */
#ifndef HAK_SIZE_CLASS_H
#define HAK_SIZE_CLASS_H

#include "front.h"

#define SIZE_SLAB_MAX   KIB(64)
#define SIZE_SLAB_BYTES KIB(256) /* of a slab, at most */
#define SIZE_RUN_LEAST  KIB(32)  /* a run may be as short, where it began as one */
#define SIZE_RUN_MAX    SEGMENT_SIZE
#define SIZE_GROWN_RUN  MIB(1)                                /* the same, of what has grown */
#define SIZE_MAX_ASK    ((size_t)1 << PROCESSOR_ADDRESS_BITS) /* for more there are no addresses */

/* X(class, size of the class below, size) */
#define SIZE_TINY_CLASSES(X)                                                                       \
    X(0, 0, 16)                                                                                    \
    X(1, 16, 32)                                                                                   \
    X(2, 32, 48)                                                                                   \
    X(3, 48, 64)                                                                                   \
    X(4, 64, 80)                                                                                   \
    X(5, 80, 96)                                                                                   \
    X(6, 96, 112)                                                                                  \
    X(7, 112, 128)                                                                                 \
    X(8, 128, 160)                                                                                 \
    X(9, 160, 192)                                                                                 \
    X(10, 192, 224)                                                                                \
    X(11, 224, 256)                                                                                \
    X(12, 256, 320)                                                                                \
    X(13, 320, 384)                                                                                \
    X(14, 384, 448) X(15, 448, 512) X(16, 512, 640) X(17, 640, 768) X(18, 768, 896) X(19, 896, 1024)
#define SIZE_L2_CLASSES(X)                                                                         \
    X(20, 1024, 1280)                                                                              \
    X(21, 1280, 1536)                                                                              \
    X(22, 1536, 1792)                                                                              \
    X(23, 1792, 2048)                                                                              \
    X(24, 2048, 2560)                                                                              \
    X(25, 2560, 3072)                                                                              \
    X(26, 3072, 3584)                                                                              \
    X(27, 3584, 4096)                                                                              \
    X(28, 4096, 5120)                                                                              \
    X(29, 5120, 6144)                                                                              \
    X(30, 6144, 7168)                                                                              \
    X(31, 7168, 8192)                                                                              \
    X(32, 8192, 10240)                                                                             \
    X(33, 10240, 12288)                                                                            \
    X(34, 12288, 14336)                                                                            \
    X(35, 14336, 16384)                                                                            \
    X(36, 16384, 20480)                                                                            \
    X(37, 20480, 24576) X(38, 24576, 28672) X(39, 28672, 32768) X(40, 32768, 65536)
#define SIZE_CLASSES(X) SIZE_TINY_CLASSES(X) SIZE_L2_CLASSES(X)

#define SIZE_CLASS_COUNT 41u

/* A bin is two words (fast/heap.h). The tables hold the places of bins, not numbers of classes:
 * malloc then adds where it would otherwise multiply. A place is 1 plus the offset in the heap, for
 * the sake of global/unit_word.h; what refers to a bin takes the 1 off again, in an instruction
 * that adds a constant anyway. */
#define SIZE_BIN_BYTES        16u
#define SIZE_BIN_PLACE(class) ((class) * SIZE_BIN_BYTES + 1)

extern const uint32_t size_class_bytes[SIZE_CLASS_COUNT];
/* 2^32 by the size of the class, rounded up. */
extern const uint32_t size_class_inverse[SIZE_CLASS_COUNT];
/* The place of the bin, by L2 granules. Of Tiny sizes, front has it by bytes:
 * that takes the rounding off each malloc, for two KiB of which a program reads few lines. */
#define SIZE_L2_GRANULE 256
extern const uint16_t size_l2_bin_place[SIZE_SLAB_MAX / SIZE_L2_GRANULE + 1];

HAK_INLINE unsigned size_bin_class(size_t place)
{
    return (unsigned)(place / SIZE_BIN_BYTES);
}

/* offset / size_class_bytes[class_no], of an offset in SIZE_SLAB_BYTES. */
HAK_INLINE uint32_t size_blocks_before(uint32_t offset, unsigned class_no)
{
    return (uint32_t)((uint64_t)offset * size_class_inverse[class_no] >> 32);
}

/* 0 <= n <= SIZE_TINY_MAX */
HAK_INLINE size_t size_to_tiny_bin_place(size_t n)
{
    return front_base()->bin_place[n];
}

/* SIZE_TINY_MAX < n <= SIZE_SLAB_MAX */
HAK_INLINE size_t size_to_l2_bin_place(size_t n)
{
    return size_l2_bin_place[(n + SIZE_L2_GRANULE - 1) / SIZE_L2_GRANULE];
}

/* 0 <= n <= SIZE_SLAB_MAX */
HAK_INLINE size_t size_to_bin_place(size_t n)
{
    return n <= SIZE_TINY_MAX ? size_to_tiny_bin_place(n) : size_to_l2_bin_place(n);
}

HAK_INLINE unsigned size_to_class(size_t n)
{
    return size_bin_class(size_to_bin_place(n));
}

/* What to ask for, to get n bytes at a multiple of the alignment: n rounded up to the alignment.
 * Slabs lie on multiples of 64 KiB, and the class of what it rounds up to is a multiple of it:
 * between 2^k and 2^(k+1) all classes are multiples of 2^(k-2), and those of 2^(k-1) and more are
 * classes themselves. n (1 or more) and the alignment (a power of two) are SIZE_SLAB_MAX at most,
 * and so is the result. */
HAK_INLINE size_t size_to_aligned(size_t n, size_t alignment)
{
    return align_up(n, alignment);
}

#endif
