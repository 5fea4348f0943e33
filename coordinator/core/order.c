#include "core/order.h"

int order_close(uint64_t *after, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		for (unsigned i = 0; i < n; i++) {
			if (after[i] >> k & 1)
				after[i] |= after[k];
		}
	}
	for (unsigned i = 0; i < n; i++) {
		if (after[i] >> i & 1)
			return ERR_INVALID;
	}
	return 0;
}
