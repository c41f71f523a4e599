package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/client"
)

// pickCmd picks a value for a field.
type pickCmd struct {
	clientFlags
	txArg
	Field  string  `arg:"" name:"FIELD" help:"The field's name."`
	Value  *string `arg:"" optional:"" name:"VALUE" help:"JSON, or plain text if it is not JSON."`
	Option string  `help:"Pick the value of this option of the field, instead of VALUE." placeholder:"NAME"`
	Force  bool    `help:"Pick for a field that no host has defined."`
}

// Help is shown by kong under the command's one line.
func (*pickCmd) Help() string {
	return `It returns when the pick is safe on the server's disk, and takes the place of all
that was picked before and that you could see. Without a connection, --replica
keeps the pick, and the next command that reaches the server brings it there:
the exit code is 4 then.

  parley pick deal price 120
  parley pick deal price --option b
  parley pick deal place "Rotterdam, pier 3"
  parley pick deal lot -- -17`
}

// withdrawCmd takes back what is picked.
type withdrawCmd struct {
	clientFlags
	txArg
	Field string `arg:"" name:"FIELD" help:"The field's name."`
}

// Help is shown by kong under the command's one line.
func (*withdrawCmd) Help() string {
	return "It takes back what is picked for the field, whoever picked it. History keeps it."
}

func (c *pickCmd) Run(io streams) error {
	if (c.Value == nil) == (c.Option == "") {
		return usagef("say what to pick: VALUE or --option NAME")
	}
	return c.edit(io, c.txArg, "picked", c.Field, func(ctx context.Context, cl *client.Client) (crdt.Hash, error) {
		fields := cl.Fields()
		f, ok := fields[c.Field]
		if !ok && !c.Force && len(fields) > 0 {
			return crdt.Hash{}, fmt.Errorf("there is no field %q: the fields are %s (--force picks for another)", c.Field, nameList(fields))
		}
		if c.Option == "" {
			return cl.Pick(ctx, c.Field, valueOf(*c.Value), "")
		}
		if _, ok := f.Options[c.Option]; !ok {
			return crdt.Hash{}, fmt.Errorf("field %q has no option %q: it has %s", c.Field, c.Option, nameList(f.Options))
		}
		return cl.PickOption(ctx, c.Field, c.Option)
	})
}

func (c *withdrawCmd) Run(io streams) error {
	return c.edit(io, c.txArg, "withdrawn", c.Field, func(ctx context.Context, cl *client.Client) (crdt.Hash, error) {
		h, err := cl.Withdraw(ctx, c.Field)
		if errors.Is(err, transaction.ErrNothingPicked) {
			return h, fmt.Errorf("nothing is picked for %q: there is nothing to withdraw", c.Field)
		}
		return h, err
	})
}

func nameList[V any](m map[string]V) string {
	const most = 10
	names := slices.Sorted(maps.Keys(m))
	if len(names) == 0 {
		return "none"
	}
	if len(names) > most {
		return plain(strings.Join(names[:most], ", ")) + ", …"
	}
	return plain(strings.Join(names, ", "))
}

// outcome is what pick and withdraw print as JSON.
type outcome struct {
	Change string `json:"change"`
	Saved  bool   `json:"saved"` // durable on the server
	Field  string `json:"field"`
	Picks  []pick `json:"picks"` // what is live for the field now
}

// edit brings the replica up to date, makes one change, and waits until the
// server has it.
func (f *clientFlags) edit(io streams, tx txArg, did, field string, do func(context.Context, *client.Client) (crdt.Hash, error)) (err error) {
	id, err := tx.id()
	if err != nil {
		return err
	}
	if err := f.needUser(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.Timeout)
	defer cancel()
	c, offline, err := f.open(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.end(c)) }()
	h, err := do(context.Background(), c)
	var refusal *crdt.Refusal
	if errors.As(err, &refusal) {
		return refused(refusal.Reason)
	}
	if err != nil {
		return err
	}
	var unsaved error
	if unsaved = client.ErrUnsaved; !offline {
		unsaved = c.Flush(ctx)
	}
	if r := rejection(c.View(), h); r != nil {
		return refused(r.Message)
	}
	if err := f.tell(io, c, did, field, h, unsaved == nil); err != nil {
		return err
	}
	return f.unsaved(c.View(), unsaved)
}

// tell prints what was done.
func (f *clientFlags) tell(io streams, c *client.Client, did, field string, h crdt.Hash, saved bool) error {
	s := sheetOf("", c.View()).Fields[field]
	if f.JSON {
		return printJSON(io.out, outcome{Change: h.String(), Saved: saved, Field: field, Picks: append([]pick{}, s.Picks...)})
	}
	state := "saved on the server"
	if !saved {
		state = "not on the server yet"
	}
	what := ""
	if len(s.Picks) > 0 {
		what = " = " + valueText(s.Picks[0].Value)
	}
	_, err := fmt.Fprintf(io.out, "%s %s%s, %s\n", did, plain(field), what, state)
	return err
}

// unsaved is how a command ends whose change is not on the server.
func (f *clientFlags) unsaved(v client.View, err error) error {
	switch {
	case err == nil:
		return nil
	case v.Stalled() && f.Replica == "":
		return errors.New("the server cannot save now: it was sent the change, and stores it when it can, unless it ends before; look with parley show then")
	case v.Stalled():
		return &codedError{exitUnsaved, errors.New("the server cannot save now: it was sent the change, and stores it when it can; it is kept in the replica too, and the next command with this --replica makes sure")}
	}
	why := ""
	if !f.Offline {
		why = f.notReady()
	}
	if why != "" {
		why = ", which says of itself: " + why
	}
	if f.Replica == "" {
		return fmt.Errorf("the server did not say in %v that it has the change (%s)%s: look with parley show, and pick again if it is not there", f.Timeout, reason(err), why)
	}
	return &codedError{exitUnsaved, fmt.Errorf("not on the server yet%s: it is kept in the replica, and the next command with this --replica brings it there", why)}
}
