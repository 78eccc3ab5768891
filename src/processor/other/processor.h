/*
 * processor.h, any other processor: see ../x86_64/processor.h.
 *
 * SYNCHRONIZATION: none.
 */
#ifndef HAK_PROCESSOR_H
#define HAK_PROCESSOR_H

#include <stdint.h>

#define PROCESSOR_ADDRESS_BITS 48

/* It stands still: whatever happens, it is at once. */
static inline uint16_t processor_clock(void)
{
    return 0;
}

#endif
