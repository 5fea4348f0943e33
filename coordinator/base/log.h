/*
 * log.h - log lines to stderr, as logfmt (ts= level= [gid=] msg=) or as one JSON object a line
 * with the same members.
 *
 * One line, one write(2). Every line about a transaction carries its gid. No
 * payload, token or header value is ever logged. Not re-entrant from signals.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level {
	LOG_DEBUG = 0,
	LOG_INFO,
	LOG_WARN,
	LOG_ERROR,
};

/* Lines below `level` are dropped. Default LOG_INFO. */
void log_set_level(enum log_level level);
/* "debug", "info", "warn", "error"; negative when it is none of them. */
int log_level_parse(const char *s);

enum log_format {
	LOG_LOGFMT = 0,
	LOG_JSON,
};

/* Default LOG_LOGFMT. */
void log_set_format(enum log_format format);
enum log_format log_get_format(void);
/* "logfmt", "json"; negative when it is neither. */
int log_format_parse(const char *s);

/* `gid` NULL for lines about no transaction. The message is formatted, then quoted and escaped,
 * so that nothing a stranger sends can forge a line. */
void log_line(enum log_level level, const char *gid, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(gid, ...) log_line(LOG_DEBUG, gid, __VA_ARGS__)
#define log_info(gid, ...)  log_line(LOG_INFO, gid, __VA_ARGS__)
#define log_warn(gid, ...)  log_line(LOG_WARN, gid, __VA_ARGS__)
#define log_error(gid, ...) log_line(LOG_ERROR, gid, __VA_ARGS__)

#endif /* BASE_LOG_H */
