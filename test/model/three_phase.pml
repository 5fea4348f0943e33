/*
 * Three-phase commit, small enough to be explored exhaustively: one coordinator, N participants.
 *
 * Each `atomic` is one effect; any process may crash between two. What is durable and what is lost
 * in a crash is said at each variable. Time is not modelled: a timeout may fire whenever its state
 * allows, which is every clock, pause and delay there can be.
 *
 * The network: sending has no precondition but the sender's durable state, and what was sent can
 * arrive at any later time, often, or never. So "was sent" needs no message: it is the history
 * of durable states (sent_pre, sent_intent, decision, polled), and delivering is one more thing
 * that may happen at any time. An answer counts only while the call under way waits for it.
 *
 * What is claimed:
 *   - ON_TIMEOUT=WAIT: never mixed, whatever is lost, delayed or down;
 *   - ON_TIMEOUT=COMMIT: never mixed with ONE_DOWN; otherwise mixed only when somebody has
 *     committed because on_timeout says so, and at the end only with an alert;
 *   - nobody is stuck: the only state without a way on is that where all have ended (spin's
 *     "invalid end state"), and without a fault nothing goes round for ever (LIVE).
 *
 * Left out: several coordinators (the fence makes an old one's calls late copies), the database
 * of a participant failing by itself, the end of retention, the initiator (its rollback is the
 * deadline).
 *
 * A counterexample: `test/model/run NAME` leaves its steps in BUILD/test/model/NAME/steps, a line
 * per effect and the state at its end. Numbers in it are the values defined below.
 *
 * Configurations (spin -D):
 *   N            2 or 3 participants
 *   CRASHES_C/P  how often the coordinator, each participant may crash
 *   ON_TIMEOUT   WAIT or COMMIT, what a participant does whom not every peer answers
 *   ONE_DOWN     the claim of `commit`: one process down at a time, none twice within one round of
 *                questions, and whoever is up is reached. Without it: anything is lost at any time
 *   READ_ONLY    a participant may vote read-only
 *   SMALL        fewer states: begins where all have said yes to can_commit; a participant
 *                prepares in one step
 *   LIVE         checks for livelock (pan -l): going round for ever without a fault
 *   TRAP_*       a known mistake, which must be refuted
 */
#ifndef N
#define N 2
#endif
#ifndef CRASHES_C
#define CRASHES_C 2
#endif
#ifndef CRASHES_P
#define CRASHES_P 1
#endif
#define WAIT 0
#define COMMIT 1
#ifndef ON_TIMEOUT
#define ON_TIMEOUT WAIT
#endif

#define FOR_ALL(p) for (p : 0 .. N - 1)
#if N == 3
#define ALL(f) (f(0) && f(1) && f(2))
#define ANY(f) (f(0) || f(1) || f(2))
#else
#define ALL(f) (f(0) && f(1))
#define ANY(f) (f(0) || f(1))
#endif

/* A round begins when the coordinator is found down: it may not go down again before its end. */
#ifdef ONE_DOWN
#define LOSSY false
#define MAY_CRASH (coordinator_up && ALL(is_up))
#define in_no_round_of_one_down(p) (asks[p] == 0)
#else
#define LOSSY true
#define MAY_CRASH true
#define in_no_round_of_one_down(p) true
#endif

/* Outcomes, of the coordinator and of each participant: durable, and final. */
#define NONE 0
#define COMMITTED 1
#define ABORTED 2

/* Answers, as the coordinator keeps them during a phase (NONE, COMMITTED, ABORTED are shared). */
#define YES 3
#define NO 4      /* the business refuses; the participant is not bound by it */
#define VOUCHED 5 /* to an intent: pre-committed, and a peer has been told so */

/* ---- the coordinator ---- */
mtype = { asking, pre_committing, pre_aborting, delivering, ended };
mtype state = asking;    /* durable */
byte decision = NONE;    /* durable; with delivering and ended */
bit read_only[N];        /* durable; set in asking, and final with it */
byte answer[N] = NONE;   /* of this phase; lost in a crash */
bit coordinator_up = 1;
bit alert;               /* a participant contradicts the decision: mixed */
bit sent_pre, sent_intent; /* the network: has it ever been on its way */
byte crashes_c = CRASHES_C;

/* ---- participants ---- */
byte outcome[N] = NONE;  /* durable: the decision column of the facts row */
bit asked[N];            /* durable: has said yes to can_commit */
bit prepared[N];         /* durable: PREPARE TRANSACTION is done */
bit vouched[N];          /* durable: a peer has been told so */
bit polled[N];           /* the network: a peer's question is on its way */
byte working[N];         /* lost in a crash: pre_commit at work (1), prepared and to be looked at (2) */
byte asks[N];            /* lost in a crash: a round of questions, coordinator not reached (1), again (2) */
#define PEER(p, q) peer[(p) * N + (q)]
byte peer[N * N] = NONE; /* lost in a crash: what this round has brought (YES: pre-committed) */
#define UNREACHED 6
bit up[N] = 1;
byte crashes[N] = CRASHES_P;
bit by_timeout;          /* somebody committed because on_timeout says so */

#define pre_committed(p) (prepared[p] && outcome[p] == NONE)
#define silent(p) (answer[p] == NONE && !read_only[p])
#define is_yes(p) (answer[p] == YES || read_only[p])
#define is_no(p) (answer[p] == NO || answer[p] == ABORTED)
#define is_bound(p) (answer[p] == ABORTED)
#define is_committed(p) (answer[p] == COMMITTED)
#define is_vouched(p) (answer[p] == VOUCHED || read_only[p])
#define has_answered(p) (!silent(p))
#define is_up(p) (up[p])
#define has_aborted(p) (outcome[p] == ABORTED)
#define has_committed(p) (outcome[p] == COMMITTED)
#define at_rest(p) (up[p] && working[p] == 0 && asks[p] == 0 && (outcome[p] != NONE || !asked[p] && !prepared[p]))
#define is_read_only(p) (read_only[p])

#define MIXED ((decision == ABORTED || ANY(has_aborted)) && (decision == COMMITTED || ANY(has_committed)))
#define EVERYTHING_ENDED (coordinator_up && state == ended && ALL(at_rest))
/* This phase waits for this participant's answer, and its call can bring one. */
#define AWAITED(p) (coordinator_up && silent(p))

inline check_claim()
{
#if ON_TIMEOUT == WAIT || defined(ONE_DOWN)
	assert(!MIXED)
#else
	assert(!MIXED || by_timeout)
#endif
}

inline enter(next)
{
	state = next;
	FOR_ALL(i) { answer[i] = NONE }
}

inline decide(what)
{
	decision = what;
	enter(delivering);
	check_claim()
}

#ifdef TRAP_ADOPT_ALL
#define ADOPTS ALL(is_committed)
#define FOUND_COMMITTED false
#else
#define ADOPTS ANY(is_committed)
#define FOUND_COMMITTED ANY(is_committed)
#endif

proctype coordinator()
{
	byte i;

	do
	/* asking: nobody has been sent pre_commit, so a no or the deadline decides. */
	:: atomic { coordinator_up && state == asking && ALL(is_read_only) ->
		decide(COMMITTED); printf("coordinator: all read-only, committed\n") }
	:: atomic { coordinator_up && state == asking && ALL(is_yes) && !ALL(is_read_only) ->
		enter(pre_committing); sent_pre = 1; printf("coordinator: pre_committing\n") }
	:: atomic { coordinator_up && state == asking && !ALL(is_read_only) ->
		decide(ABORTED); printf("coordinator: a no or the deadline in asking, aborted\n") }

	/* pre_committing: a no or the deadline is an intent. */
	:: atomic { coordinator_up && state == pre_committing && ALL(is_yes) ->
		decide(COMMITTED); printf("coordinator: all pre-committed, committed\n") }
	:: atomic { coordinator_up && state == pre_committing && FOUND_COMMITTED && ALL(has_answered) ->
		decide(COMMITTED); printf("coordinator: one has committed, committed\n") }
	:: atomic { coordinator_up && state == pre_committing && !FOUND_COMMITTED ->
#ifdef TRAP_NO_DECIDES
		if
		:: ANY(is_no) -> decide(ABORTED)
		:: else -> enter(pre_aborting); sent_intent = 1
		fi;
#else
		enter(pre_aborting); sent_intent = 1;
#endif
		printf("coordinator: a no or the deadline, pre_aborting\n") }

	/* pre_aborting: what the participants say decides, and nothing else. */
	:: atomic { coordinator_up && state == pre_aborting && ANY(is_bound) ->
		decide(ABORTED); printf("coordinator: one has accepted the intent, aborted\n") }
	:: atomic { coordinator_up && state == pre_aborting && ADOPTS ->
		decide(COMMITTED); printf("coordinator: one has committed, committed\n") }
#ifndef TRAP_VOUCHED_STALL
	:: atomic { coordinator_up && state == pre_aborting && ALL(is_vouched) ->
		decide(COMMITTED); printf("coordinator: all have vouched, committed\n") }
#endif
#ifdef TRAP_ADOPT_ALL
	:: atomic { coordinator_up && state == pre_aborting && ALL(has_answered) && !ADOPTS ->
		decide(ABORTED); printf("coordinator: not all have committed, aborted\n") }
#endif

	:: atomic { coordinator_up && state == delivering && ALL(has_answered) ->
		enter(ended);
		printf("coordinator: ended\n") }

	:: atomic { coordinator_up && crashes_c > 0 && MAY_CRASH && ALL(in_no_round_of_one_down) ->
		coordinator_up = 0; crashes_c--;
		FOR_ALL(i) { answer[i] = NONE };
#ifdef TRAP_FORGETS_INTENT
		if
		:: state == pre_aborting -> state = pre_committing
		:: else
		fi;
#endif
		printf("coordinator: crashes\n") }
	:: atomic { !coordinator_up -> coordinator_up = 1; printf("coordinator: is back\n") }

	:: atomic { EVERYTHING_ENDED -> assert(!MIXED || alert); break }
	od
}

/* Takes an outcome, for ever. What was held is let go with it. */
inline take(p, what)
{
	outcome[p] = what;
	asked[p] = 0;
	prepared[p] = 0;
	vouched[p] = 0;
	check_claim()
}

/* A peer asks for this participant's state: whatever the answer, it is bound to it before. */
inline bind(p)
{
	if
	:: outcome[p] != NONE
	:: outcome[p] == NONE && prepared[p] ->
		vouched[p] = 1
	:: outcome[p] == NONE && !prepared[p] ->
#ifndef TRAP_UNBOUND
		take(p, ABORTED)
#endif
	fi
}

inline end_round(p)
{
	asks[p] = 0;
	FOR_ALL(i) { PEER(p, i) = NONE }
}

#ifdef TRAP_READ_ONLY_PEER
#define is_peer(p, q) (p != q)
#else
#define is_peer(p, q) (p != q && !read_only[q])
#endif
#define came_from(p, q, what) (!is_peer(p, q) || PEER(p, q) == what)
#define came(p, q) (!is_peer(p, q) || PEER(p, q) != NONE)
#if N == 3
#define ALL_CAME(p) (came(p, 0) && came(p, 1) && came(p, 2))
#define ALL_YES(p) (came_from(p, 0, YES) && came_from(p, 1, YES) && came_from(p, 2, YES))
#else
#define ALL_CAME(p) (came(p, 0) && came(p, 1))
#define ALL_YES(p) (came_from(p, 0, YES) && came_from(p, 1, YES))
#endif

/* What GET decision says, where it is not pending. */
#ifdef TRAP_INTENT_DECIDES
#define SAYS_ABORTED (decision == ABORTED || state == pre_aborting)
#else
#define SAYS_ABORTED (decision == ABORTED)
#endif
#ifdef PENDING_GOES_ON
#define NOT_TOLD (!coordinator_up || LOSSY || decision == NONE)
#else
#define NOT_TOLD (!coordinator_up || LOSSY)
#endif

proctype participant(byte me)
{
	byte i, q;

	do
	/* can_commit */
	:: atomic { up[me] && state == asking && AWAITED(me) ->
		if
		:: outcome[me] == NONE -> asked[me] = 1; answer[me] = YES
		:: answer[me] = NO
#ifdef READ_ONLY
		:: outcome[me] == NONE && !asked[me] -> read_only[me] = 1
#endif
		fi;
		printf("participant %d: asked, answer %d\n", me, answer[me]) }
	:: atomic { up[me] && !read_only[me] && !asked[me] && !prepared[me] && outcome[me] == NONE ->
		asked[me] = 1; printf("participant %d: asked, late\n", me) }
	:: atomic { up[me] && asked[me] && !prepared[me] && outcome[me] == NONE ->
		take(me, ABORTED); printf("participant %d: no pre_commit came, aborts\n", me) }

	/* pre_commit: begins, prepares, then looks whether a poll has aborted it meanwhile. */
#ifdef SMALL
	:: atomic { up[me] && sent_pre && !read_only[me] && !prepared[me] && outcome[me] == NONE ->
		if
		:: prepared[me] = 1
		:: state == pre_committing && AWAITED(me) -> answer[me] = NO
		fi;
		printf("participant %d: pre_commit, prepared %d\n", me, prepared[me]) }
#else
	:: atomic { up[me] && sent_pre && !read_only[me] && working[me] == 0 &&
		!prepared[me] && outcome[me] == NONE ->
		working[me] = 1 }
	:: atomic { up[me] && working[me] == 1 && state == pre_committing && AWAITED(me) ->
		working[me] = 0; answer[me] = NO; printf("participant %d: refuses pre_commit\n", me) }
	:: atomic { up[me] && working[me] == 1 ->
		working[me] = 2;
		/* With an outcome it is prepared only until it has looked. */
		prepared[me] = (outcome[me] == NONE);
		printf("participant %d: prepared\n", me) }
	:: atomic { up[me] && working[me] == 2 -> working[me] = 0 }
#endif
	:: atomic { up[me] && sent_pre && working[me] == 0 && state == pre_committing && AWAITED(me) &&
		(prepared[me] || outcome[me] != NONE) ->
		answer[me] = (outcome[me] == NONE -> YES : outcome[me]);
		printf("participant %d: answers pre_commit with %d\n", me, answer[me]) }

	/* abort as an intent */
	:: atomic { up[me] && sent_intent && !read_only[me] &&
#ifndef TRAP_VOUCHED_ACCEPTS
		!vouched[me] &&
#endif
		outcome[me] == NONE ->
		take(me, ABORTED); printf("participant %d: accepts the intent, aborts\n", me) }
	:: atomic { up[me] && state == pre_aborting && AWAITED(me) &&
		(vouched[me] || outcome[me] != NONE) ->
		answer[me] = (outcome[me] == NONE -> VOUCHED : outcome[me]);
		printf("participant %d: answers the intent with %d\n", me, answer[me]) }

	/* do_commit and abort, decided */
	:: atomic { up[me] && decision == COMMITTED && pre_committed(me) ->
		take(me, COMMITTED); printf("participant %d: commits as decided\n", me) }
	:: atomic { up[me] && (decision == ABORTED
#ifdef TRAP_INTENT_DECIDES
		|| sent_intent
#endif
		) && !read_only[me] && outcome[me] == NONE ->
		take(me, ABORTED); printf("participant %d: aborts as decided\n", me) }
	:: atomic { up[me] && decision == COMMITTED && !read_only[me] && outcome[me] == NONE &&
		!prepared[me] ->
		take(me, ABORTED); printf("participant %d: cannot commit as decided, aborts\n", me) }
	:: atomic { up[me] && state == delivering && AWAITED(me) && outcome[me] != NONE ->
		answer[me] = outcome[me];
#ifndef TRAP_NO_ALERT
		alert = alert || answer[me] != decision;
#endif
		printf("participant %d: answers the decision with %d\n", me, answer[me]) }

	/* A peer's question, late: the answer reaches nobody. */
	:: atomic { up[me] && polled[me] && outcome[me] == NONE && !vouched[me] ->
		bind(me); printf("participant %d: hears a peer's late question\n", me) }

	/* The hold time is over: the termination protocol, one question after the other. */
#ifdef TRAP_NAIVE
	:: atomic { up[me] && pre_committed(me) -> take(me, COMMITTED);
		printf("participant %d: commits on its timeout\n", me) }
#endif
	:: atomic { up[me] && pre_committed(me) && (coordinator_up && SAYS_ABORTED) ->
		take(me, ABORTED); printf("participant %d: is told aborted\n", me) }
	:: atomic { up[me] && pre_committed(me) && asks[me] == 0 && NOT_TOLD ->
		asks[me] = 1;
		for (q : 0 .. N - 1) {
			if
			:: is_peer(me, q) -> polled[q] = 1
			:: else
			fi
		}
		q = 0;
		printf("participant %d: does not reach the coordinator\n", me) }
#ifdef LIVE
progress_coordinator:
		skip
#endif
	:: atomic { up[me] && asks[me] == 1 && !ALL_CAME(me) ->
		if
		:: !came(me, 0) -> q = 0
		:: !came(me, 1) -> q = 1
#if N == 3
		:: !came(me, 2) -> q = 2
#endif
		fi;
		if
		:: up[q] ->
			bind(q);
			if
			:: outcome[q] == NONE && prepared[q] -> PEER(me, q) = YES
			:: outcome[q] == NONE && !prepared[q] -> /* only of a trap */
				end_round(me);
				if
				:: outcome[me] == NONE -> take(me, ABORTED)
				:: else
				fi
			:: outcome[q] != NONE ->
				end_round(me);
				if
				:: outcome[me] == NONE -> take(me, outcome[q])
				:: else
				fi
			fi;
			printf("participant %d: hears %d is %d\n", me, q, outcome[q])
		:: !up[q] || LOSSY ->
			PEER(me, q) = UNREACHED;
			printf("participant %d: does not reach %d\n", me, q)
		fi;
		q = 0 }
	:: atomic { up[me] && asks[me] == 1 && ALL_CAME(me) && ALL_YES(me) ->
		end_round(me);
		if
		:: pre_committed(me) -> take(me, COMMITTED)
		:: else
		fi;
		printf("participant %d: all have pre-committed, commits\n", me) }
	:: atomic { up[me] && asks[me] == 1 && ALL_CAME(me) && !ALL_YES(me) ->
#if ON_TIMEOUT == WAIT
		end_round(me)
#else
		asks[me] = 2
#endif
		}
#if ON_TIMEOUT == COMMIT
	:: atomic { up[me] && asks[me] == 2 ->
		if
#ifndef TRAP_ONE_QUESTION
		:: coordinator_up -> end_round(me)
		:: !coordinator_up || LOSSY ->
#else
		:: true ->
#endif
			end_round(me);
			if
			:: pre_committed(me) -> by_timeout = 1; take(me, COMMITTED)
			:: else
			fi;
			printf("participant %d: on_timeout, commits\n", me)
		fi }
#endif

	:: atomic { up[me] && crashes[me] > 0 && MAY_CRASH ->
		up[me] = 0; crashes[me]--; working[me] = 0;
#ifdef TRAP_FORGETS_VOUCH
		vouched[me] = 0;
#endif
		end_round(me); printf("participant %d: crashes\n", me) }
	:: atomic { !up[me] -> up[me] = 1; printf("participant %d: is back\n", me) }

	:: atomic { EVERYTHING_ENDED -> break }
	od
}

init {
	byte i;

	atomic {
#ifdef SMALL
		FOR_ALL(i) { asked[i] = 1 };
		state = pre_committing;
		sent_pre = 1;
#endif
		run coordinator();
		FOR_ALL(i) { run participant(i) }
	}
}
