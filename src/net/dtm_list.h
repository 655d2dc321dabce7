/* -------------------------------------------------------------------------
 *
 * dtm_list.h
 *		Doubly linked lists whose links lie inside the members.
 *
 * Plain C twin of PostgreSQL's ilist.h, which src/net cannot include.  A
 * head is a link that points to itself when the list is empty; a member
 * outside any list points to itself too, so that taking it out is harmless.
 *
 * -------------------------------------------------------------------------
 */
#ifndef DTM_LIST_H
#define DTM_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct DtmLink
{
	struct DtmLink *prev;
	struct DtmLink *next;
} DtmLink;

/* The struct that holds this link. */
#define dtm_list_entry(link_, type_, member_) \
	((type_ *) (void *) ((char *) (link_) -offsetof(type_, member_)))

static inline void
dtm_list_init(DtmLink *link)
{
	link->prev = link;
	link->next = link;
}

static inline bool
dtm_list_is_empty(const DtmLink *head)
{
	return head->next == head;
}

static inline void
dtm_list_push_tail(DtmLink *head, DtmLink *link)
{
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

static inline void
dtm_list_push_head(DtmLink *head, DtmLink *link)
{
	dtm_list_push_tail(head->next, link);
}

static inline void
dtm_list_remove(DtmLink *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	dtm_list_init(link);
}

/* Take the first member out; NULL when there is none. */
static inline DtmLink *
dtm_list_pop_head(DtmLink *head)
{
	DtmLink *link = head->next;

	if (link == head)
		return NULL;
	dtm_list_remove(link);
	return link;
}

#endif /* DTM_LIST_H */
