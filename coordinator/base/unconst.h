/*
 * unconst.h - for foreign functions that take a pointer to what they only read without saying so.
 */
#ifndef BASE_UNCONST_H
#define BASE_UNCONST_H

static inline void *unconst(const void *p)
{
	union {
		const void *in;
		void *out;
	} u = {p};

	return u.out;
}

#endif /* BASE_UNCONST_H */
