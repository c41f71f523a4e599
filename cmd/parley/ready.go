package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"parley/crdt"
	"parley/sync/client"
	"parley/sync/presence"
)

// readyCmd confirms what is picked, and waits for the others.
type readyCmd struct {
	clientFlags
	txArg
	At   string        `help:"What you confirm, as show prints it: if anything has changed since, you do not. Hashes or beginnings of hashes, joined by commas." placeholder:"HEADS"`
	Wait time.Duration `help:"How long to wait for the others (default: until it is decided)." placeholder:"DURATION"`
}

// Help is shown by kong under the command's one line.
func (*readyCmd) Help() string {
	return `It prints what is picked, confirms exactly that in your name, and waits: until all
who must agree have confirmed the same, or until a change undoes it. While it
waits you are here; interrupted, you have confirmed nothing.

Exit codes: 0 agreed, 5 a change undid it, 6 a field is contested, 7 a required
field is missing, 8 --at is not what there is any more, 9 --wait is over,
130 interrupted; and those of every command, of which 3 says that you are no party.`
}

// Validate is called by kong after parsing.
func (c *readyCmd) Validate() error {
	if c.Wait < 0 {
		return errors.New("--wait must not be negative")
	}
	if c.Offline {
		return errors.New("ready talks to the server: leave --offline out")
	}
	return nil
}

func (c *readyCmd) Run(io streams) (err error) {
	id, err := c.id()
	if err != nil {
		return err
	}
	if err := c.needUser(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	asking, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	cl, offline, err := c.open(asking, id)
	if err != nil {
		return c.interrupted(ctx, err)
	}
	defer func() { err = errors.Join(err, c.end(cl)) }()
	if offline {
		return c.unreachable(cmp.Or(cl.Status().Err, context.DeadlineExceeded))
	}
	v := cl.View()
	heads, err := c.heads(cl, v)
	if err != nil {
		return err
	}
	if !c.JSON {
		s := sheetOf(id, v)
		s.Resolution, s.Resolutions = nil, nil // the outcome says it
		if err := printSheet(io.out, s, time.Now()); err != nil {
			return err
		}
	}
	if err := cl.Ready(asking, heads); err != nil {
		return c.notReady(ctx, io, cl, heads, err)
	}
	if !c.JSON {
		text := "you are ready for this"
		if r := cl.View().Roster; r != nil && notAsked(r, cl.User()) {
			text += ", but not one of those who must agree"
		}
		fmt.Fprintln(io.out, text)
	}
	lapsed := 0
	for _, l := range v.Lapses { // of earlier confirmations
		lapsed = l.N
	}
	return c.wait(ctx, io, cl, heads, lapsed)
}

// heads is what is confirmed: --at, or what there is.
func (c *readyCmd) heads(cl *client.Client, v client.View) ([]crdt.Hash, error) {
	if c.At == "" {
		return v.Heads, nil
	}
	return headsAt(cl, c.At)
}

// notReady ends the command whose confirmation was refused.
func (c *readyCmd) notReady(ctx context.Context, io streams, cl *client.Client, heads []crdt.Hash, err error) error {
	var refusal *client.NotReadyError
	switch {
	case !errors.As(err, &refusal) && cl.View().Stalled():
		return c.interrupted(ctx, errors.New("the server cannot save now, and takes note of nobody who waits for a change to be saved: you are not ready"))
	case !errors.As(err, &refusal):
		return c.interrupted(ctx, fmt.Errorf("the server did not take note in %v (%s): you are not ready", c.Timeout, reason(err)))
	case refusal.Code == client.CodeLapsed:
		return c.lapsed(io, cl.View(), heads, client.Lapse{User: "you", Because: *refusal.Because})
	case refusal.Code == presence.CodeNotAParty:
		return refused(refusal.Message)
	}
	o := readyOutcome{Outcome: string(refusal.Code), Heads: crdt.HashTexts(heads), Message: refusal.Message, Fields: refusal.Fields}
	if err := c.print(io, o); err != nil {
		return err
	}
	codes := map[crdt.Code]int{
		presence.CodeContested: exitContested, presence.CodeIncomplete: exitIncomplete, presence.CodeStale: exitStale,
	}
	code, known := codes[refusal.Code]
	if !known {
		code = exitRefused
	}
	return &codedError{code, errors.New("you are not ready: " + refusal.Message)}
}

// wait follows the others until it is decided. Lapses up to lapsed are not of
// this confirmation.
func (c *readyCmd) wait(ctx context.Context, io streams, cl *client.Client, heads []crdt.Hash, lapsed int) error {
	waiting := ctx
	if c.Wait > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, c.Wait)
		defer cancel()
	}
	shown := make(map[string]string)
	var v client.View
	for v = range cl.Watch(waiting) {
		if r := agreement(v, heads); r != nil {
			return c.agreed(io, r)
		}
		for _, l := range v.Lapses {
			if l.User == cl.User() && l.N > lapsed {
				l.User = "you"
				return c.lapsed(io, v, heads, l)
			}
		}
		switch {
		case v.Status.State == client.Offline:
			return c.unreachable(v.Status.Err)
		case v.Ready == nil:
			return c.takenBack(io, heads)
		case !c.JSON:
			tellOthers(io, cl.User(), v, shown)
		}
	}
	r, err := c.withdraw(cl, heads)
	switch {
	case r != nil:
		return errors.Join(c.agreed(io, r), err)
	case ctx.Err() != nil:
		return c.interrupted(ctx, err)
	}
	if err := c.print(io, readyOutcome{Outcome: "waiting", Heads: crdt.HashTexts(heads)}); err != nil {
		return err
	}
	text := fmt.Sprintf("not all are ready after %v", c.Wait)
	if v.Roster != nil {
		text += ": " + standing(v.Roster, cl.User())
	}
	return errors.Join(&codedError{exitWaiting, errors.New(text)}, err)
}

// agreement returns the one over heads, nil if none is known.
func agreement(v client.View, heads []crdt.Hash) *presence.Resolution {
	heads = crdt.SortHashes(slices.Clone(heads))
	for i := range v.Resolutions {
		if r := &v.Resolutions[i]; r.Over(heads) {
			return r
		}
	}
	return nil
}

// withdraw takes the confirmation back, whatever other connections there are. If
// it was too late, it returns the agreement.
func (c *readyCmd) withdraw(cl *client.Client, heads []crdt.Hash) (*presence.Resolution, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	if err := cl.Unready(ctx); err != nil {
		return nil, err
	}
	var v client.View
	for v = range cl.Watch(ctx) { // until the server has shown that it knows
		if agreement(v, heads) != nil || v.Status.State != client.Online || !isReady(v.Roster, cl.User()) {
			break
		}
	}
	r, err := agreement(v, heads), cl.Close(ctx)
	if r == nil && (v.Status.State != client.Online || ctx.Err() != nil) {
		err = errors.Join(errors.New("the server could not be told: to it you may be ready until its grace is over"), err)
	}
	return r, err
}

// tellOthers prints what is new about who is here and how it stands.
func tellOthers(io streams, user string, v client.View, shown map[string]string) {
	lines := append([][2]string{{" connection", v.Status.State.String()}}, peopleLines(v, shown)...)
	for _, l := range lines {
		if was, known := shown[l[0]]; was == l[1] || !known && l[1] == client.Online.String() || l[0] == subjectPerson+user {
			shown[l[0]] = l[1]
			continue
		}
		shown[l[0]] = l[1]
		fmt.Fprintln(io.out, l[1])
	}
}

// readyOutcome is what ready prints as JSON.
type readyOutcome struct {
	Outcome    string               `json:"outcome"` // resolved, lapsed, unready, contested, incomplete, stale or waiting
	Heads      []string             `json:"heads"`   // what was confirmed
	Resolution *presence.Resolution `json:"resolution,omitempty"`
	Because    *jsonCause           `json:"because,omitempty"` // of lapsed
	Fields     []string             `json:"fields,omitempty"`  // of contested and incomplete
	Message    string               `json:"message,omitempty"`
}

func (c *readyCmd) print(io streams, o readyOutcome) error {
	if !c.JSON {
		return nil
	}
	return printJSON(io.out, o)
}

func (c *readyCmd) agreed(io streams, r *presence.Resolution) error {
	if c.JSON {
		return c.print(io, readyOutcome{Outcome: "resolved", Heads: crdt.HashTexts(r.Heads), Resolution: r})
	}
	_, err := fmt.Fprintf(io.out, "agreed by %s (resolution %d)\n", and(r.Parties), r.N)
	return err
}

func (c *readyCmd) lapsed(io streams, v client.View, heads []crdt.Hash, l client.Lapse) error {
	cause := jsonCauseOf(l.Because)
	if err := c.print(io, readyOutcome{Outcome: "lapsed", Heads: crdt.HashTexts(heads), Because: &cause}); err != nil {
		return err
	}
	return &codedError{exitLapsed, errors.New(lapseText(l, v.Fields) + ": look at it with parley show, and confirm again")}
}

// takenBack ends the command when the user has said otherwise elsewhere.
func (c *readyCmd) takenBack(io streams, heads []crdt.Hash) error {
	if err := c.print(io, readyOutcome{Outcome: "unready", Heads: crdt.HashTexts(heads)}); err != nil {
		return err
	}
	return &codedError{exitLapsed, errors.New("you are not ready any more: it was taken back on another connection of yours")}
}

// interrupted gives an error the exit code of an interruption, if there was one.
func (c *readyCmd) interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return &codedError{exitInterrupted, errors.Join(errors.New("interrupted: you are not ready"), err)}
}
