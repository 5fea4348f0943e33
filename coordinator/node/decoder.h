/*
 * decoder.h - reading JSON requests member by member, with complaints that name their place.
 *
 * Every function returns PROBLEM_NONE or the problem it has described in decoder->complaint, so
 * that a decoder is a chain of reads that ends at the first fault.
 */
#ifndef NODE_DECODER_H
#define NODE_DECODER_H

#include "io/json.h"
#include "node/submission.h"

/* Where the decoder is: what it reads, and the path for complaints. */
struct decoder {
	const char *text;
	const struct json_doc *doc;
	const struct registry *registry; /* NULL: trusted */
	struct arena *arena;
	struct complaint *complaint;
	char path[96]; /* JSON pointer of the object being read */
};

/* A slash and the name, escaped; nothing when there is no room for all of it. */
void decoder_append_to_pointer(char *pointer, size_t size, const char *member);

enum problem decoder_reject(struct decoder *d, enum problem p, const char *member, const char *fmt,
                            ...) __attribute__((format(printf, 4, 5)));
enum problem decoder_out_of_memory(struct decoder *d);
enum problem decoder_expect_type(struct decoder *d, const struct json_value *v, enum json_type want,
                                 const char *member) MUSTCHECK;
/* Every member of `object` is one of `known` (ends with NULL). */
enum problem decoder_check_members(struct decoder *d, const struct json_value *object,
                                   const char *const *known) MUSTCHECK;
/* *out stays as it is (the default) when the member is absent. */
enum problem decoder_read_int(struct decoder *d, const struct json_value *object,
                              const char *member, const int64_t range[2], int64_t *out) MUSTCHECK;
enum problem decoder_copy_str(struct decoder *d, const char *s, size_t len,
                              const char **out) MUSTCHECK;
/* 1 to `max` letters, digits and characters of `extra`. */
bool decoder_identifier_valid(const char *s, size_t len, size_t max, const char *extra);

/* NULL, or what is wrong with the pair. */
typedef const char *pair_fault_fn(const char *name, const char *value, size_t value_len);

struct pair_rule {
	const char *member;
	size_t max;
	enum problem problem;
	pair_fault_fn *fault;
};

/* An object of strings: labels and headers. */
enum problem decoder_read_pairs(struct decoder *d, const struct json_value *parent,
                                const struct pair_rule *rule, struct submission_pair **out,
                                size_t *n) MUSTCHECK;

/* One of two words; true for the second. */
enum problem decoder_read_option(struct decoder *d, const struct json_value *object,
                                 const char *member, const char *const value[2],
                                 bool *second) MUSTCHECK;

/* branch_decode.c: one branch, decoded into sub->branch[index]; its payload is the document's raw
 * span number `raw`. */
enum problem branch_decode(struct decoder *d, const struct json_value *v,
                           const struct submission *sub, unsigned index, size_t raw) MUSTCHECK;

/* order_decode.c: what `after` says in the array of branches, when all of them are decoded, and which
 * results their payloads are built from. */
enum problem order_decode(struct decoder *d, const struct json_value *branches,
                          struct submission *sub) MUSTCHECK;

/* phase_decode.c: what mode 3pc has, and no other. */
enum problem phase_decode(struct decoder *d, const struct json_value *root,
                          struct submission *out) MUSTCHECK;
enum problem phase_decode_branch(struct decoder *d, const struct json_value *v, enum txn_mode mode,
                                 struct branch_spec *out) MUSTCHECK;

#endif /* NODE_DECODER_H */
