/*
 * atfork_lib.h: see atfork_lib.c.
 */
#ifndef HAK_ATFORK_LIB_H
#define HAK_ATFORK_LIB_H

/* In the child of a fork: waits for the thread. How many of its blocks were not as it had left
 * them. */
int atfork_lib_wrong(void);

#endif
