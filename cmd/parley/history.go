package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"parley/crdt/transaction"
	"parley/sync/client"
)

// historyCmd prints what happened to a transaction.
type historyCmd struct {
	clientFlags
	txArg
}

// Help is shown by kong under the command's one line.
func (*historyCmd) Help() string {
	return `Every pick ever made, every withdrawal, and what hosts did to fields, in the same
order for everybody. The last column is the change, which show --at takes.`
}

func (c *historyCmd) Run(io streams) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	events, notice, err := c.events(ctx, id)
	if err != nil {
		return err
	}
	if notice != "" && !c.JSON {
		fmt.Fprintln(io.err, notice)
	}
	if c.JSON {
		return printJSON(io.out, events)
	}
	return printHistory(io.out, events, time.Now())
}

func (c *historyCmd) events(ctx context.Context, id transaction.ID) (events []event, notice string, err error) {
	if c.Replica == "" {
		events, err = c.api().history(ctx, id)
		return events, "", err
	}
	err = c.withReplica(ctx, id, func(cl *client.Client, offline bool) error {
		if offline {
			notice = offlineNotice(cl.Synced().Pending)
		}
		all, err := cl.History()
		events = eventsOf(all)
		return err
	})
	return events, notice, err
}

func printHistory(w io.Writer, events []event, now time.Time) error {
	const widest = 48
	rows := [][]string{{"WHEN", "WHO", "WHAT", "IN PLACE OF", "CHANGE"}}
	rows = append(rows, historyRows(events, now)...)
	return writeTable(w, rows, widest)
}

func historyRows(events []event, now time.Time) (rows [][]string) {
	picks := make(map[string]*pick) // by operation
	for _, e := range events {
		if e.Pick != nil {
			picks[e.Pick.Op] = e.Pick
		}
		rows = append(rows, []string{whenText(e.At, now), whoOf(e), happened(e), replaced(e, picks), short(e.Change)})
	}
	return rows
}

// whoOf names who did it. A replica does not know of everything who delivered it,
// but that only hosts do things to fields.
func whoOf(e event) string {
	switch {
	case e.User != "":
		return plain(e.User)
	case e.Kind == transaction.FieldSet, e.Kind == transaction.FieldRemoved:
		return "host"
	}
	return "-"
}

func happened(e event) string {
	field := plain(e.Field)
	switch e.Kind {
	case transaction.Picked:
		text := field + " = " + valueText(e.Pick.Value)
		if e.Pick.Option != "" {
			text += " (option " + plain(e.Pick.Option) + ")"
		}
		return text
	case transaction.Withdrawn:
		return "withdrew " + field
	case transaction.FieldRemoved:
		return "removed field " + field
	}
	return "set field " + field
}

// replaced lists the picks that an event took the place of.
func replaced(e event, picks map[string]*pick) string {
	var list []string
	for _, op := range e.Superseded {
		if p := picks[op]; p != nil {
			list = append(list, valueText(p.Value)+" by "+plain(p.By))
		}
	}
	return strings.Join(list, ", ")
}
