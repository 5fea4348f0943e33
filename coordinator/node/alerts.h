/*
 * alerts.h - what a person should look at, from the core's actions to the journal's rows; and how
 * many are open.
 *
 * The rows go out with the record of the step that raised them, so they are put before its effects
 * are carried out. Closing comes from the core as well: for every branch that got through.
 */
#ifndef NODE_ALERTS_H
#define NODE_ALERTS_H

#include "node/gtx.h"

/* The alerts of a step, after its record was put. */
void alerts_put(struct gtx *g, const struct effects *fx);

/* "warning", "error" or "critical". */
const char *alert_severity_str(enum alert_kind kind);
/* A kind or a severity by that name. */
bool alert_kind_known(const char *name);
bool alert_severity_known(const char *name);

/* Ask the database how many are open, into node->alerts_open. */
void alerts_count(struct node *n);

#endif /* NODE_ALERTS_H */
