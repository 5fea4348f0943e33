/*
 * handlers.h - what the routes lead to. Each handler owns its exchange.
 */
#ifndef API_HANDLERS_H
#define API_HANDLERS_H

#include "api/exchange.h"

typedef void route_handler(struct exchange *x);

/* submit.c */
route_handler handle_submit; /* POST and PUT */
/* interactive.c */
route_handler handle_enlist;
route_handler handle_commit;
route_handler handle_rollback;
/* list.c */
route_handler handle_list;
/* transaction.c */
route_handler handle_get;
route_handler handle_decision;
/* history.c */
route_handler handle_history;
/* health.c */
route_handler handle_livez;
route_handler handle_readyz;
route_handler handle_metrics;
/* problems.c */
route_handler handle_problems;
route_handler handle_problem;
route_handler handle_openapi;

/* admin_alerts.c */
route_handler handle_alerts;
/* admin_overview.c */
route_handler handle_overview;
/* admin_participants.c */
route_handler handle_participants;
/* admin_config.c */
route_handler handle_config;

#endif /* API_HANDLERS_H */
