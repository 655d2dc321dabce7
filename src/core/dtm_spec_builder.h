/* -------------------------------------------------------------------------
 *
 * dtm_spec_builder.h
 *		The inside of a spec builder, shared by its files:
 *		dtm_spec_build.c (steps, finish), dtm_spec_options.c (options,
 *		headers, errors) and dtm_spec_topic.c (subscribers).
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_SPEC_BUILDER_H
#define DTM_SPEC_BUILDER_H

#include "dtm_spec.h"

typedef struct DtmHeaderPair
{
	DtmText name;
	DtmText value;
} DtmHeaderPair;

/* Sorted by name, each name once. */
typedef struct DtmHeaderList
{
	DtmHeaderPair *pairs; /* room for DTM_MAX_HEADERS, or NULL */
	int n;
} DtmHeaderList;

/* What a step needs beside its DtmBranch until it is packed. */
typedef struct DtmStepExtra
{
	uint8_t given; /* bit per DtmRole whose target is there, though perhaps as "" */
	DtmHeaderList headers;
	DtmText *subscribers; /* of the topic that the step names */
	int n_subscribers;
	int subscribers_size; /* allocated */
	uint16_t *after;      /* sorted, each once */
	int after_size;       /* allocated */
} DtmStepExtra;

struct DtmSpecBuilder
{
	DtmArena *arena;
	DtmTrans trans;      /* created_at 0, so start_at is start_after */
	DtmStepExtra *extra; /* as many as trans.branches */
	int size;            /* allocated branches */
	DtmHeaderList headers;
	bool may_be_empty;
	size_t bytes; /* copied so far, bounds the memory */
	DtmSpecError error;
};

/* Printable, shortened form of what the user gave, for a message. */
typedef struct DtmQuoted
{
	char text[112];
} DtmQuoted;

extern DtmQuoted dtm_spec_quote(const char *data, size_t len);

/* How a step of this type is written. */
typedef struct DtmStepForm
{
	const char *list;           /* name of the argument */
	const char *element;        /* what one of it is called */
	const char *key[DTM_ROLES]; /* keys of the targets, NULL = no such role */
	uint8_t required;           /* bit per DtmRole */
	const char *example;
	const char *keys;  /* all of them, for a hint */
	const char *after; /* how "after" is written, for a hint */
} DtmStepForm;

/* NULL for a type whose steps cannot be submitted. */
extern const DtmStepForm *dtm_spec_form(DtmTransType type);

/* Memory; NULL after having recorded the error. */
extern void *dtm_spec_alloc(DtmSpecBuilder *builder, size_t size);

/* Keep a copy; counts towards the bound of the whole spec. */
extern bool dtm_spec_copy(DtmSpecBuilder *builder, const char *data, size_t len, DtmText *out);

/* Check a target of a step (-1: of the transaction), as the value of this field. */
extern bool dtm_spec_check_target(DtmSpecBuilder *builder, int step, const char *field,
								  DtmText value, bool topics);

/* Check a name of a step (-1: of what is no step), as the value of this field. */
extern bool
dtm_spec_check_name(DtmSpecBuilder *builder, int step, const char *field, DtmText value);

/* Keep a target that was checked; that of a topic with its scheme in small letters. */
extern bool dtm_spec_copy_target(DtmSpecBuilder *builder, DtmText value, DtmText *out);

/* Add or replace one header of a step (-1: of the transaction). */
extern bool dtm_spec_put_header(DtmSpecBuilder *builder, DtmHeaderList *list, int step,
								DtmText name, DtmJsonKind kind, DtmText value);

/* The list in the form that dtm_headers_next reads. */
extern bool dtm_spec_pack_headers(DtmSpecBuilder *builder, const DtmHeaderList *list, DtmText *out);

#endif /* DTM_SPEC_BUILDER_H */
