/*
 * size_class.c: the tables of size_class.h.
 *
 * SYNCHRONIZATION: constant.
 */
#include "size_class.h"

#define X_BYTES(class, below, size) [class] = (size),
const uint32_t size_class_bytes[SIZE_CLASS_COUNT] = {SIZE_CLASSES(X_BYTES)};

#define X_INVERSE(class, below, size)                                                              \
    [class] = (uint32_t)((((uint64_t)1 << 32) + (size)-1) / (size)),
const uint32_t size_class_inverse[SIZE_CLASS_COUNT] = {SIZE_CLASSES(X_INVERSE)};

#define X_L2_PLACE(class, below, size)                                                             \
    [(below) / SIZE_L2_GRANULE + 1 ...(size) / SIZE_L2_GRANULE] = SIZE_BIN_PLACE(class),
const uint16_t size_l2_bin_place[SIZE_SLAB_MAX / SIZE_L2_GRANULE + 1] = {
    SIZE_L2_CLASSES(X_L2_PLACE)};

#define X_CHECK(class, below, size)                                                                \
    static_assert((size) % SIZE_GRANULE == 0 && (size) > (below) && (size) <= UNIT_SIZE,           \
                  "a class is a multiple of 16 and a slab holds one block at least");
SIZE_CLASSES(X_CHECK)

#define X_INVERSE_CHECK(class, below, size)                                                        \
    static_assert((SIZE_SLAB_BYTES - 1) * ((((uint64_t)1 << 32) + (size)-1) / (size) * (size) -    \
                                           ((uint64_t)1 << 32)) <                                  \
                      (uint64_t)1 << 32,                                                           \
                  "what the inverse is too large by does not come to a block");
SIZE_CLASSES(X_INVERSE_CHECK)

#define X_L2_CHECK(class, below, size)                                                             \
    static_assert((size) % SIZE_L2_GRANULE == 0, "the granules of L2 end where its classes do");
SIZE_L2_CLASSES(X_L2_CHECK)

#define X_COUNT(class, below, size) +1
static_assert(0 SIZE_CLASSES(X_COUNT) == SIZE_CLASS_COUNT, "each class once");
