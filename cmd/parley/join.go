package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/term"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/client"
)

// joinCmd shows a transaction as it changes, and lets one pick.
type joinCmd struct {
	clientFlags
	txArg
}

// Help is shown by kong under the command's one line.
func (*joinCmd) Help() string {
	return `In a terminal: who is here and who is ready, the fields, what is picked and by
whom, and the options of the chosen field side by side; the keys are shown at the
bottom. Without a terminal, or with --json, it prints a line for each change,
until it is interrupted.

To be ready (y) is to confirm what you see, exactly: any change undoes it. When
all who must agree are ready for the same, they have agreed.

What is picked without a connection goes to the server when there is one. With
--replica it is kept on disk meanwhile; without, it is lost if you quit.`
}

func (c *joinCmd) Run(io streams) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	if err := c.needUser(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if c.Replica == "" { // with a replica it may come to be
		asking, cancel := context.WithTimeout(ctx, c.Timeout)
		_, err := c.api().show(asking, id, "")
		cancel()
		if err != nil {
			return err
		}
	}
	cl, err := c.start(ctx, id)
	if err != nil {
		return err
	}
	if c.JSON || !terminal(io.in) || !terminal(io.out) {
		err = c.follow(ctx, io, id, cl)
	} else {
		err = c.screen(ctx, io, id, cl)
	}
	return errors.Join(err, c.leave(cl))
}

func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

// leave closes the client and says what is not on the server.
func (c *joinCmd) leave(cl *client.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	if cl.Status().State != client.Online {
		cancel()
	}
	if err := cl.Close(ctx); err != nil {
		return err
	}
	n := cl.Synced().Pending
	switch {
	case n == 0:
		return nil
	case c.Replica == "":
		return fmt.Errorf("%s could not be brought to the server and are lost: --replica DIR keeps them next time", count(n, "change", "changes"))
	}
	return &codedError{exitUnsaved, fmt.Errorf("%s not on the server yet: kept in the replica, and the next command with this --replica brings them there", count(n, "change", "changes"))}
}

// screen runs the terminal program until it is quit.
func (c *joinCmd) screen(ctx context.Context, io streams, id transaction.ID, cl *client.Client) error {
	m := newScreen(id, cl.User(), c.Replica != "", c.Server, cl)
	m.view, m.history = cl.View(), func() ([]event, error) {
		all, err := cl.History()
		return eventsOf(all), err
	}
	p := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(io.in), tea.WithOutput(io.out))
	watching, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with watching
		defer close(done)
		for v := range cl.Watch(watching) {
			p.Send(viewMsg(v))
		}
	}()
	_, err := p.Run()
	stop()
	<-done
	if errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil || errors.Is(err, tea.ErrInterrupted) {
		return nil
	}
	return err
}

// doer is what the screen does with a transaction: a *client.Client.
type doer interface {
	Pick(ctx context.Context, field string, value json.RawMessage, option string) (crdt.Hash, error)
	PickOption(ctx context.Context, field, option string) (crdt.Hash, error)
	Withdraw(ctx context.Context, field string) (crdt.Hash, error)
	Ready(ctx context.Context, heads []crdt.Hash) error
	Unready(ctx context.Context) error
	Focus(field string)
	Reconnect()
}

// Messages of the screen.
type (
	viewMsg    client.View
	tickMsg    time.Time
	doneMsg    struct{ err error } // of what was done
	historyMsg struct {
		events []event
		err    error
	}
)

func tick() tea.Cmd {
	return tea.Tick(time.Second, func(t time.Time) tea.Msg { return tickMsg(t) })
}
